"""Compute exact boxes of objects, and make boxes loose for training and for the experiment.

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
OUTWARD = np.array([-1, -1, 1, 1])  # sign of a move of each edge of XYXY that makes the box larger
NEGATIVE = {"both": 0.5, "grow": 0.0, "shrink": 1.0}  # share of the draws that make a move negative, by direction


def read_boxes(path: str | Path) -> pd.DataFrame:
    """Read the table that the stage `boxes` wrote. All columns but `split` are integers."""
    return read_table(path)


def read_objects(path: str | Path, split: str, objects: int | None = None) -> pd.DataFrame:
    """Read the objects of a split from the table of the stage `boxes`, with row numbers from 0.

    Args:
        path: CSV that the stage `boxes` wrote.
        split: `train`, `validation` or `test`.
        objects: Largest number of objects, evenly spaced. None reads all.
    """
    table = read_boxes(path)
    table = table[table["split"] == split]
    return (table if objects is None else evenly_spaced(table, objects)).reset_index(drop=True)


def evenly_spaced(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return at most `count` rows of a table, evenly spaced."""
    return table.iloc[np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int)]


def by_tile(table: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield each tile of a table, in order, with its rows."""
    for _, rows in table.groupby("tile"):
        yield int(rows["tile"].iloc[0]), rows


def object_boxes(objects: NDArray[np.integer[Any]]) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Yield (id, x0, y0, x1, y1, area) of every object of a label tile, by id, in pixels.

    Args:
        objects: YX; 0 is background.
    """
    areas = np.bincount(objects.ravel())
    for number, window in enumerate(find_objects(objects), start=1):
        if window is not None:
            y, x = window
            yield number, x.start, y.start, x.stop, y.stop, int(areas[number])


def box_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the intersection over union of each pair of boxes.

    Args:
        a: (..., 4), XYXY. Each box must have an area.
        b: (..., 4), XYXY, in the same frame. The shapes of `a` and `b` broadcast.

    Returns:
        (...), from 0 to 1.
    """
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    intersection = np.prod(np.maximum(sides, 0), axis=-1)
    areas = np.prod(a[..., 2:] - a[..., :2], axis=-1) + np.prod(b[..., 2:] - b[..., :2], axis=-1)
    return np.asarray(intersection / (areas - intersection))


def deviate(boxes: ArrayLike, levels: ArrayLike, uniform: ArrayLike, deviation: Deviation) -> NDArray[np.float32]:
    """Make boxes loose.

    Args:
        boxes: (N, 4), XYXY, pixels.
        levels: (N,), or one level for all boxes, in per cent of the lengths of the sides.
        uniform: (N, 4), draws from [0, 1), which decide the signs of the moves. If the direction is `both`, a draw
            below 0.5 means −, and any other one +. `scale` uses the first draw of a row. `translate` uses the first for
            x and the second for y. `edges` uses one draw for each edge of XYXY.
        deviation: Kind and direction of the deviation.

    Returns:
        (N, 4), XYXY, pixels. Boxes can reach beyond their tile.
    """
    exact = np.asarray(boxes, np.float64)
    signs = np.where(np.asarray(uniform) < NEGATIVE[deviation.direction], -1, 1)
    # Moves of the edges XYXY at 100 %, in lengths of the side that they move along
    match deviation.kind:
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
    """Return boxes (N, 4), XYXY, scaled by a factor about their centres. They can reach beyond the tile."""
    margins = (factor - 1) / 2 * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate([boxes[:, :2] - margins, boxes[:, 2:] + margins], axis=1)


def clip(boxes: NDArray[np.float32], shape: ArrayLike) -> NDArray[np.float32]:
    """Return boxes (N, 4), XYXY pixels, cut at the borders of their tiles.

    Args:
        boxes: (N, 4).
        shape: (height, width) of all tiles in pixels, or (N, 2) with a row for each box.
    """
    limits = np.asarray(shape)[..., [1, 0, 1, 0]]
    return np.asarray(np.clip(boxes, 0, limits), np.float32)


def object_uniform(seed: int, dataset: str, table: pd.DataFrame, level: int) -> NDArray[np.float64]:
    """Draw four numbers from [0, 1) for each object of a table, as an array (N, 4).

    The numbers of a row depend only on the arguments and on its `tile` and `object`. So all models get the same boxes,
    and a change of other rows or data sets does not change them.
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
    """Return the loose boxes that all models get at a level.

    Args:
        table: A row for each object, with the columns of `read_boxes`.
        level: Deviation, per cent.
        dataset: Name of the data set.
        seed: Seed of the draws.
        deviation: Kind and direction of the deviation.
        shapes: (N, 2), (height, width) of each row's tile in pixels, or one shape for all rows.

    Returns:
        (N, 4), XYXY, pixels of the tile, cut at its border.
    """
    exact = table[XYXY].to_numpy()
    return clip(deviate(exact, level, object_uniform(seed, dataset, table, level), deviation), shapes)
