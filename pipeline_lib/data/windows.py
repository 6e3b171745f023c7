"""Place the windows that the encoder sees around the boxes of an image.

A grid of tiles would cut objects at its lines, and would need a tile even for a single box. Here each box lies whole in
one window, with a margin unless the image ends there, and neighbouring boxes share a window.
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

SMALLEST = 16  # pixels: shortest side of a window; a smaller one would not show the surroundings of an object
STEP = 2**0.5  # ratio of two sizes of windows; with few sizes, boxes share windows


@dataclass(frozen=True)
class WindowConfig:
    """The size of windows."""

    side: int  # pixels of the image; a window is larger if a box with its margin does not fit
    object_share: float | None  # largest share of a window's side that the longer side of a box takes; None: no limit
    margin: float  # smallest margin around a box, in sides of the box


class Window(NamedTuple):
    """A square part of a slice, pixels. It reaches beyond the slice if the slice is smaller."""

    y: int
    x: int
    side: int


def lay_windows(boxes: Boxes, shape: tuple[int, int], config: WindowConfig) -> tuple[list[Window], NDArray[np.int64]]:
    """Place windows around the boxes of a slice.

    Args:
        boxes: (N, 4), XYXY pixels of the slice. Each has an area, and a part of it lies within the slice.
        shape: (height, width) of the slice, pixels.
        config: Size of the windows.

    Returns:
        The windows, sorted by size and then in reading order, and the number (N,) of the window of each box.
    """
    # Areas of whole pixels that windows must hold: the boxes with their margins
    height, width = shape
    ends = [width, height, width, height]
    boxes = np.clip(boxes, 0, ends)
    with_margins = np.clip(grown(boxes, 1 + 2 * config.margin), 0, ends)
    areas = np.concatenate([np.floor(with_margins[:, :2]), np.ceil(with_margins[:, 2:])], axis=1).astype(np.int64)
    # Boxes that need windows of the same size share them
    sides, owners = sides_of(boxes, areas, config), np.zeros(len(boxes), np.int64)
    windows: list[Window] = []
    for side in np.unique(sides):
        of_side = np.flatnonzero(sides == side)
        for members in _covers(areas[of_side], int(side)):
            owners[of_side[members]] = len(windows)
            windows.append(_window_around(areas[of_side[members]], int(side), shape))
    # Sort the windows, and number them anew
    order = sorted(range(len(windows)), key=lambda number: (windows[number].side, windows[number]))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return [windows[number] for number in order], place[owners]


def sides_of(boxes: Boxes, areas: NDArray[np.int64], config: WindowConfig) -> NDArray[np.int64]:
    """Return the side (N,) of the window of each box, pixels: the configured side times a power of `STEP`.

    Args:
        boxes: (N, 4), XYXY pixels.
        areas: (N, 4), XYXY, the whole pixels of each box with its margin. They must fit into the window.
        config: Size of the windows, and the largest share of a window that a box takes.
    """
    longest = np.maximum(1, (areas[:, 2:] - areas[:, :2]).max(axis=1)).astype(float)
    to_fit = np.ceil(np.log(longest / config.side) / np.log(STEP) - 1e-9)
    to_share = np.zeros(len(boxes))
    if config.object_share is not None:
        sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1) / config.object_share
        to_share = np.ceil(np.log(sides / config.side) / np.log(STEP) - 1e-9)
    return np.asarray(np.ceil(config.side * STEP ** np.maximum(to_fit, to_share)).clip(min=SMALLEST), np.int64)


def _covers(areas: NDArray[np.int64], side: int) -> Iterator[NDArray[np.int64]]:
    """Yield the numbers of the areas that share a window, window by window.

    The search is greedy, from top to bottom. A window begins at the top of the highest area that is left. Among the
    horizontal positions that hold this area, it gets the one that holds most other areas.

    Args:
        areas: (N, 4), XYXY, pixels. Each fits into a window.
        side: Side of the windows, pixels.
    """
    order = np.argsort(areas[:, 1], kind="stable")
    x0, y0, x1, y1 = areas[order].T
    remaining = np.ones(len(order), bool)
    for first in range(len(order)):
        if not remaining[first]:
            continue
        # Areas that can share a window with the first one
        last = np.searchsorted(y0, y0[first] + side)
        candidates = first + np.flatnonzero(
            remaining[first:last]
            & (y1[first:last] <= y0[first] + side)
            & (x0[first:last] > x1[first] - side)
            & (x1[first:last] < x0[first] + side)
        )
        candidates = np.union1d(candidates, [first])
        # The left edge of the window is that of an area. Take the edge that holds most areas
        starts = np.unique(x0[candidates][x0[candidates] <= x0[first]])
        fits = (x0[candidates] >= starts[:, None]) & (x1[candidates] <= starts[:, None] + side)
        members = candidates[fits[fits.sum(axis=1).argmax()]]
        remaining[members] = False
        yield order[members]


def _window_around(areas: NDArray[np.int64], side: int, shape: tuple[int, int]) -> Window:
    """Return the window centred on some areas, moved into the slice (height, width) as far as it fits."""
    low, high = areas[:, :2].min(axis=0), areas[:, 2:].max(axis=0)
    x, y = ((low + high - side) // 2).tolist()
    height, width = shape
    return Window(max(0, min(y, height - side)), max(0, min(x, width - side)), side)


def with_windows(
    boxes: pd.DataFrame, images: Sequence[ImageFile], config: WindowConfig
) -> tuple[pd.DataFrame, tuple[PlacedWindow, ...]]:
    """Place windows around the boxes of a set of images.

    Args:
        boxes: Boxes XYXY, in pixels of their `image` and `slice`. Those with a `reason` are skipped and get no window.
        images: The images of the set.
        config: Size of the windows.

    Returns:
        The boxes with the column `window`, a number or -1; and the windows, sorted by image and slice.
    """
    owners = pd.Series(-1, boxes.index)
    all_windows: list[PlacedWindow] = []
    good = boxes[boxes["reason"] == ""]
    by_slice = {key: rows for key, rows in good.groupby(["image", "slice"])}
    for image in images:
        for z in range(image.shape[0]):
            if (image.name, z) not in by_slice:
                continue
            rows = by_slice[image.name, z]
            windows, numbers = lay_windows(rows[XYXY].to_numpy(np.float32), image.shape[1:], config)
            owners[rows.index] = len(all_windows) + numbers
            all_windows += [PlacedWindow(image.name, z, *window) for window in windows]
    return boxes.assign(window=owners), tuple(all_windows)
