"""Windows: the parts of an image that the encoder sees, laid so that no given box is cut and few are needed.

A grid of tiles cuts what lies across its lines, and encodes tiles for a single box. Here boxes come first: each lies
whole in one window, with a margin unless the image ends there, and boxes that are neighbours share one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.data.boxes import XYXY, Boxes, grown
from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.prompts import PlacedWindow

SMALLEST = 16  # pixels of a window's side: less is nothing to see an object by
STEP = 2**0.5  # between two sizes of windows: few sizes, so that boxes share windows


@dataclass(frozen=True)
class WindowConfig:
    """How large windows are."""

    side: int  # pixels of the image; larger where a box with its margin is, and of any size with `object_share`
    object_share: float | None  # of a window's side that a box's longer side takes at most; None: any
    margin: float  # of a box's sides, that the window shows around it at least


class Window(NamedTuple):
    """A square part of a slice, pixels; it may reach beyond a slice that is smaller."""

    y: int
    x: int
    side: int


def lay_windows(boxes: Boxes, shape: tuple[int, int], config: WindowConfig) -> tuple[list[Window], NDArray[np.int64]]:
    """Windows of a slice, by size and then in reading order, and the number (N,) of that which each box lies in.

    Args:
        boxes: (N, 4), XYXY pixels of the slice, each with an area and a part within the slice.
        shape: (height, width) of the slice.
        config: the windows' size.
    """
    height, width = shape
    ends = [width, height, width, height]
    boxes = np.clip(boxes, 0, ends)
    shown = np.clip(grown(boxes, 1 + 2 * config.margin), 0, ends)
    areas = np.concatenate([np.floor(shown[:, :2]), np.ceil(shown[:, 2:])], axis=1).astype(np.int64)
    sides, owners = sides_of(boxes, areas, config), np.zeros(len(boxes), np.int64)
    windows: list[Window] = []
    for side in np.unique(sides):
        of_side = np.flatnonzero(sides == side)
        for members in _covers(areas[of_side], int(side)):
            owners[of_side[members]] = len(windows)
            windows.append(_centred(areas[of_side[members]], int(side), shape))
    order = sorted(range(len(windows)), key=lambda number: (windows[number].side, windows[number]))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return [windows[number] for number in order], place[owners]


def sides_of(boxes: Boxes, areas: NDArray[np.int64], config: WindowConfig) -> NDArray[np.int64]:
    """The side of each box's window (N,), pixels: the configured one times a power of `STEP`.

    It holds the box's area of pixels XYXY, which has the margin, and shows the box as small as it is to be.
    """
    wanted = np.maximum(1, (areas[:, 2:] - areas[:, :2]).max(axis=1)).astype(float)
    steps = np.ceil(np.log(wanted / config.side) / np.log(STEP) - 1e-9)
    least = np.zeros(len(boxes))
    if config.object_share is not None:
        longest = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / config.object_share
        least = np.ceil(np.log(longest / config.side) / np.log(STEP) - 1e-9)
    return np.asarray(np.ceil(config.side * STEP ** np.maximum(steps, least)).clip(min=SMALLEST), np.int64)


def _covers(areas: NDArray[np.int64], side: int) -> Iterator[NDArray[np.int64]]:
    """Groups of areas that fit into a window each, by a greedy search from above: the numbers of their members.

    A window begins where the highest area that is left does, and of the places from left to right that hold this one it
    takes the place that holds most others.
    """
    order = np.argsort(areas[:, 1], kind="stable")
    x0, y0, x1, y1 = areas[order].T
    left = np.ones(len(order), bool)
    for first in range(len(order)):
        if not left[first]:
            continue
        last = np.searchsorted(y0, y0[first] + side)
        near = first + np.flatnonzero(
            left[first:last]
            & (y1[first:last] <= y0[first] + side)
            & (x0[first:last] > x1[first] - side)
            & (x1[first:last] < x0[first] + side)
        )
        near = np.union1d(near, [first])
        starts = np.unique(x0[near][x0[near] <= x0[first]])
        held = (x0[near] >= starts[:, None]) & (x1[near] <= starts[:, None] + side)
        members = near[held[held.sum(axis=1).argmax()]]
        left[members] = False
        yield order[members]


def _centred(areas: NDArray[np.int64], side: int, shape: tuple[int, int]) -> Window:
    """The window around some areas, moved into the slice as far as it fits."""
    low, high = areas[:, :2].min(axis=0), areas[:, 2:].max(axis=0)
    x, y = ((low + high - side) // 2).tolist()
    height, width = shape
    return Window(max(0, min(y, height - side)), max(0, min(x, width - side)), side)


def with_windows(
    boxes: pd.DataFrame, images: Sequence[ImageFile], config: WindowConfig
) -> tuple[pd.DataFrame, tuple[PlacedWindow, ...]]:
    """Windows for a set of images.

    Args:
        boxes: XYXY pixels of `image` and `slice`; those with a `reason` to be skipped are given no window.
        images: of the set.
        config: the windows' size.

    Returns:
        The boxes with the column `window`, a number or -1, and the windows, by image and slice.
    """
    owners = pd.Series(-1, boxes.index)
    laid: list[PlacedWindow] = []
    good = boxes[boxes["reason"] == ""]
    by_slice = {key: rows for key, rows in good.groupby(["image", "slice"])}
    for image in images:
        for z in range(image.shape[0]):
            if (image.name, z) not in by_slice:
                continue
            rows = by_slice[image.name, z]
            windows, numbers = lay_windows(rows[XYXY].to_numpy(np.float32), image.shape[1:], config)
            owners[rows.index] = len(laid) + numbers
            laid += [PlacedWindow(image.name, z, *window) for window in windows]
    return boxes.assign(window=owners), tuple(laid)
