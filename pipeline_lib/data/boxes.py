"""Exact boxes of objects, and how boxes are made loose, in training as in the experiment.

Boxes are XYXY, half-open, in pixels of their tile: an object of one pixel at x = 3 spans 3 to 4.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import find_objects

from pipeline_lib.data.tables import read_table
from pipeline_lib.settings.boxes import Deviation

Boxes = NDArray[np.float32]  # (N, 4), XYXY half-open, pixels of their tile, window or slice
XYXY = ["x0", "y0", "x1", "y1"]  # columns of a box, wherever boxes are stored
COLUMNS = ("tile", "object", "split", *XYXY, "area")
OUTWARD = np.array([-1, -1, 1, 1])  # the direction in which each edge of XYXY leaves the box
NEGATIVE = {"both": 0.5, "grow": 0.0, "shrink": 1.0}  # the share of draws that mean −


def read_boxes(path: str | Path) -> pd.DataFrame:
    """The table that `boxes` wrote: integers, but for the column `split`."""
    return read_table(path)


def read_objects(path: str | Path, split: str, objects: int | None = None) -> pd.DataFrame:
    """The rows of that table that are of a split, at most so many and then evenly spaced, numbered anew."""
    table = read_boxes(path)
    table = table[table["split"] == split]
    return (table if objects is None else evenly_spaced(table, objects)).reset_index(drop=True)


def evenly_spaced(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """At most `count` rows, evenly spaced."""
    return table.iloc[np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int)]


def by_tile(table: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield each tile of a table, in order, with its rows."""
    for _, rows in table.groupby("tile"):
        yield int(rows["tile"].iloc[0]), rows


def object_boxes(objects: NDArray[np.integer[Any]]) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Yield (id, x0, y0, x1, y1, area) of every object of a label tile (YX, 0 is background), by id."""
    areas = np.bincount(objects.ravel())
    for number, window in enumerate(find_objects(objects), start=1):
        if window is not None:
            y, x = window
            yield number, x.start, y.start, x.stop, y.stop, int(areas[number])


def box_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union (...) of boxes (..., 4) XYXY and boxes (..., 4) pair by pair; all must have an area."""
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.prod(np.maximum(sides, 0), axis=-1)
    both = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1)
    return np.asarray(shared / (both - shared))


def deviate(boxes: ArrayLike, levels: ArrayLike, uniform: ArrayLike, deviation: Deviation) -> NDArray[np.float32]:
    """Make boxes loose.

    Args:
        boxes: (N, 4), XYXY pixels.
        levels: (N,), or one for all: percent of the sides' lengths.
        uniform: (N, 4), draws from [0, 1); where both directions are drawn, below a half is − and else +. `scale` uses
            the first of a row, `translate` the first for x and the second for y, `edges` one for each of XYXY.
        deviation: what the deviation does.

    Returns:
        (N, 4) boxes; they may reach beyond their tile.
    """
    exact = np.asarray(boxes, np.float64)
    signs = np.where(np.asarray(uniform) < NEGATIVE[deviation.direction], -1, 1)
    match deviation.kind:  # how far each edge of XYXY moves, in sides
        case "scale":
            moves = signs[:, [0, 0, 0, 0]] * OUTWARD / 2
        case "edges":
            moves = signs * OUTWARD / 2
        case "translate":
            moves = signs[:, [0, 1, 0, 1]]
    return moved(exact, np.asarray(levels)[..., None] / 100 * moves)


def moved(boxes: ArrayLike, moves: NDArray[np.float64]) -> NDArray[np.float32]:
    """Move the edges of boxes (N, 4), XYXY, by shares (N, 4) of the sides that they bound, to the right or down."""
    exact = np.asarray(boxes, np.float64)
    sides = (exact[:, 2:] - exact[:, :2])[:, [0, 1, 0, 1]]
    return np.asarray(exact + moves * sides, np.float32)


def grown(boxes: NDArray[np.floating], factor: float) -> NDArray[np.floating]:
    """Boxes (N, 4) with sides so many times as long, about the same centres; they may reach beyond the tile."""
    margins = (factor - 1) / 2 * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate([boxes[:, :2] - margins, boxes[:, 2:] + margins], axis=1)


def clip(boxes: NDArray[np.float32], shape: ArrayLike) -> NDArray[np.float32]:
    """Cut boxes (N, 4) at the borders of their tile: `shape` is (height, width), or (N, 2) with a row for each."""
    limits = np.asarray(shape)[..., [1, 0, 1, 0]]
    return np.asarray(np.clip(boxes, 0, limits), np.float32)


def object_uniform(seed: int, dataset: str, table: pd.DataFrame, level: int) -> NDArray[np.float64]:
    """Draw four numbers from [0, 1) for each object of a table: (N, 4).

    A row's numbers depend on the arguments and on its `tile` and `object` alone, so that every model is given the same
    boxes, and another row or data set can change without moving them.
    """
    name = crc32(dataset.encode())
    draws = [
        np.random.default_rng([seed, name, tile, number, level]).random(4)
        for tile, number in zip(table["tile"], table["object"], strict=True)
    ]
    return np.array(draws).reshape(-1, 4)


def deviated(
    table: pd.DataFrame, level: int, dataset: str, seed: int, deviation: Deviation, shapes: ArrayLike
) -> NDArray[np.float32]:
    """The boxes given to every model at a level: (N, 4) XYXY pixels, cut at the border.

    `shapes` are the (height, width) of each row's tile, (N, 2), or one for all.
    """
    exact = table[XYXY].to_numpy()
    return clip(deviate(exact, level, object_uniform(seed, dataset, table, level), deviation), shapes)
