"""Measure how boxes deviate from the exact boxes of labelled objects.

The `level` of a pair makes any box comparable with the levels of the tables. It is the deviation at which an exact box,
scaled about its centre, has the same box IoU. It is scaled up if the box is larger than the exact one, else down.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline_lib.data.boxes import OUTWARD, XYXY, box_iou
from pipeline_lib.data.measured_deviations import EDGES
from pipeline_lib.evaluation.statistics import Estimate, estimate, sums_by_group

LEAST = 0.1  # smallest box IoU of a pair; a box that is shifted by 60 % of both sides has about this
SAME = 0.5  # smallest box IoU at which an unmatched box is a second box of an object
PLACE = ["image", "slice"]
LEVELS = (10, 20, 30, 40)  # per cent


@dataclass(frozen=True)
class Deviations:
    """Boxes matched to the labelled objects of their slice, one box to one object."""

    pairs: pd.DataFrame
    """A row for each matched object, sorted by image and slice. Columns: `image`, `slice`, `object`, `where` (place of
    the box in its file), `score`, `box_iou`, `level` (per cent); `left`, `top`, `right`, `bottom`: how far each edge
    lies outside the exact one, as a share of the object's side; `scale`: root of the ratio of the two areas; `shift_x`,
    `shift_y`: shift of the centre, as a share of the object's sides."""
    slices: pd.DataFrame
    """A row for each slice with objects or boxes. Columns: `image`, `slice`, and numbers of `objects`, `boxes`,
    `matched` pairs, `missed` objects, `doubled` boxes (their object has a better box) and `stray` boxes (they have no
    object)."""


class Figure(NamedTuple):
    """A mean over the pairs with its 95 % interval over slices."""

    name: str
    value: Estimate


def deviations(boxes: pd.DataFrame, objects: pd.DataFrame) -> Deviations:
    """Match boxes to objects, slice by slice, so that the sum of the box IoUs is largest.

    Args:
        boxes: `image`, `slice`, XYXY in pixels of the slice, `where`, `score`.
        objects: of `ExactBoxes`.
    """
    pairs, slices = [], []
    places = pd.concat([boxes[PLACE], objects[PLACE]]).drop_duplicates().sort_values(PLACE)
    by_place = {key: dict(list(table.groupby(PLACE))) for key, table in (("boxes", boxes), ("objects", objects))}
    for place in places.itertuples(index=False, name=None):
        loose, exact = by_place["boxes"].get(place, boxes[:0]), by_place["objects"].get(place, objects[:0])
        overlaps = box_iou(loose[XYXY].to_numpy(float)[:, None], exact[XYXY].to_numpy(float)[None])  # (boxes, objects)
        rows, columns = linear_sum_assignment(overlaps, maximize=True)
        is_pair = overlaps[rows, columns] >= LEAST
        rows, columns = rows[is_pair], columns[is_pair]
        pairs.append(_measure_pairs(loose.iloc[rows], exact.iloc[columns]))
        unmatched = np.delete(overlaps, rows, axis=0)
        doubled = int((unmatched.max(axis=1, initial=0) >= SAME).sum())
        counts = {"objects": len(exact), "boxes": len(loose), "matched": len(rows), "missed": len(exact) - len(rows)}
        counts |= {"doubled": doubled, "stray": len(unmatched) - doubled}
        slices.append(dict(zip(PLACE, place, strict=True)) | counts)
    return Deviations(pd.concat(pairs, ignore_index=True), pd.DataFrame(slices))


def _measure_pairs(loose: pd.DataFrame, exact: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `Deviations.pairs` for boxes and objects that are matched row by row."""
    box, true = loose[XYXY].to_numpy(float), exact[XYXY].to_numpy(float)
    sides, true_sides = box[:, 2:] - box[:, :2], true[:, 2:] - true[:, :2]
    edges = (box - true) * OUTWARD / np.tile(true_sides, 2)
    shifts = (box[:, :2] + box[:, 2:] - true[:, :2] - true[:, 2:]) / 2 / true_sides
    overlaps, scale = box_iou(box, true), np.sqrt(sides.prod(axis=1) / true_sides.prod(axis=1))
    return exact[[*PLACE, "object"]].assign(
        where=loose["where"].to_numpy(),
        score=loose["score"].to_numpy(),
        box_iou=overlaps,
        level=level_of(overlaps, scale),
        **dict(zip(EDGES, edges.T, strict=True)),
        scale=scale,
        shift_x=shifts[:, 0],
        shift_y=shifts[:, 1],
    )


def level_of(overlaps: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the levels (N,), per cent, at which scaled boxes have these box IoUs (N,); at most 100.

    A box that is scaled by 1 + s has the box IoU 1 / (1 + s)², and one that is scaled by 1 - s has (1 - s)².

    Args:
        overlaps: box IoU of each pair, above 0.
        scale: scale of each pair, above 1 if the box is larger than the exact one.
    """
    sides = np.sqrt(overlaps)
    shares = np.where(scale > 1, 1 / sides - 1, 1 - sides)
    return np.asarray(100 * np.minimum(shares, 1))


def figures(pairs: pd.DataFrame) -> list[Figure]:
    """Return the mean box IoU of the pairs, and the share of boxes within each of `LEVELS`."""
    slices = pairs.assign(seed=0, slice=pairs.groupby(PLACE).ngroup())
    values = {"mean box IoU": slices["box_iou"]}
    within = {level: slices["level"].round(3) <= level for level in LEVELS}  # files hold rounded coordinates
    values |= {f"share of boxes within {level} %": share.astype(float) for level, share in within.items()}
    return [
        Figure(name, estimate(sums_by_group(value.groupby([slices["seed"], slices["slice"]]))))
        for name, value in values.items()
    ]
