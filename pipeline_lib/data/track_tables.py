"""Tabulate the objects of a volume: a row for each mask of an object in a slice, and a row for each object."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.surfaces import surface_areas
from pipeline_lib.data.tracks import Tracks, object_numbers, placed_mask
from pipeline_lib.settings.segment import TrackFlags

UM3 = 1e-9  # cubic micrometres in a cubic nanometre
EDGE = "end of the volume"
SIDES = ("before_first", "after_last")
PLACE = ("slice", "object", "start", "direction")
MEASURED = ("predicted_iou", "overlap", "confidence", "likeness")
FLAGS = {  # with the names of thresholds in braces
    "empty": "its mask has no pixel in the slice of its box",
    "box skipped": "one of its boxes was skipped, so the object depends on its other boxes",
    "low predicted IoU": "the mean predicted IoU of its masks is low (below {predicted_iou:g})",
    "ends abruptly": "its last mask at an end is still large (at least {abrupt:g} of its largest one)",
    "grows": "its largest mask is much larger than that in the slice of a box (more than {growth:g} times)",
    "tracks disagree": "the masks that start from two of its boxes disagree (IoU below {agreement:g})",
    "gap": "slices between two of its boxes have no mask",
    "shares voxels": "many of its voxels also belong to another object (a share of more than {shared:g})",
}

ENDS = {
    "empty": "the mask has no pixel",
    "overlap": "its IoU with the mask of the neighbouring slice that it came from is low (below track.overlap)",
    "confidence": "the predicted IoU is too small a share of its mean over the masks so far (below track.confidence)",
    "likeness": "the grey values inside the mask differ too much from those inside its masks so far (track.likeness)",
}


def slices_table(tracks: Tracks) -> pd.DataFrame:
    """Return a row for each mask of an object in a slice, sorted by slice and object.

    Returns:
        A table with the columns

        - `slice`, `object`, `start` and `direction`, as in `TRACKS`;
        - `area`: number of pixels of the mask;
        - `shared`: number of these pixels that belong to another object in the label image;
        - `predicted_iou`, `overlap`, `confidence` and `likeness`, as in `TRACKS`;
        - the bounding box of the mask, XYXY, pixels of the slice.
    """
    rows = []
    for z, masks in tracks.masks.groupby("slice"):
        instances = tracks.instances(int(str(z)))
        for row in masks.to_dict("records"):
            mask = instances.masks[row["object"]]
            y, x = slice(mask.y0, mask.y1), slice(mask.x0, mask.x1)
            area = int(instances.crop(row["object"]).sum())
            labelled = int((instances.numbers(tracks.image.name, int(str(z)), y, x) == row["object"]).sum())
            box = dict(zip(XYXY, (mask.x0, mask.y0, mask.x1, mask.y1), strict=True))
            values = {key: row[key] for key in (*PLACE, *MEASURED)}
            rows.append(values | box | {"area": area, "shared": area - labelled})
    return pd.DataFrame(rows, columns=[*PLACE, "area", "shared", *MEASURED, *XYXY])


def volume_table(
    tracks: Tracks, slices: pd.DataFrame, pixel_size: Sequence[float] | None, thresholds: TrackFlags
) -> pd.DataFrame:
    """Return a row for each object, by its number.

    Args:
        tracks: Masks of all objects.
        slices: Table of `slices_table`.
        pixel_size: ZYX, nm; None if it is not known.
        thresholds: Thresholds of the flags.

    Returns:
        A table with the columns

        - `name` and `label` of its first box, and `boxes`, the slices of its boxes;
        - `first_slice` and `last_slice` with a mask, and `slices`, the number of slices with a mask;
        - `voxels`;
        - `volume_um3` and `surface_um2` (`surface_areas`), which are NaN without a pixel size;
        - `predicted_iou`: the mean over its masks;
        - `before_first` and `after_last`: why it ended there, such as "likeness 0.302 < 0.55 in slice 8";
        - `agreement`: the lowest IoU of the two masks in a slice where two tracks meet; NaN if no tracks meet;
        - `shared`: the share of its voxels that belong to another object in the label image;
        - `flags`, separated by "; ".
    """
    boxes = tracks.prompts.boxes
    rows = {
        int(str(number)): _facts(tracks, int(str(number)), slices[slices["object"] == number], object_boxes, thresholds)
        for number, object_boxes in boxes.groupby(object_numbers(boxes))
    }
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("object")
    scale = np.nan if pixel_size is None else float(np.prod(pixel_size)) * UM3
    surfaces = np.nan if pixel_size is None else surface_areas(tracks, pixel_size)
    place = table.columns.to_list().index("voxels") + 1
    table.insert(place, "volume_um3", table["voxels"] * scale)
    table.insert(place + 1, "surface_um2", surfaces)
    return table


def _facts(
    tracks: Tracks, number: int, slices: pd.DataFrame, boxes: pd.DataFrame, thresholds: TrackFlags
) -> dict[str, Any]:
    rows, used = tracks.rows[tracks.rows["object"] == number], boxes[boxes["reason"] == ""]
    starts, reached, voxels = sorted(used["slice"]), sorted(slices["slice"]), int(slices["area"].sum())
    facts: dict[str, Any] = {
        "name": boxes["name"].iloc[0],
        "label": boxes["label"].iloc[0],
        "boxes": " ".join(map(str, starts)),
        "first_slice": min(reached, default=np.nan),
        "last_slice": max(reached, default=np.nan),
        "slices": len(reached),
        "voxels": voxels,
        "predicted_iou": slices["predicted_iou"].mean(),
        "before_first": _end(rows, starts[0], -1) if reached else "",
        "after_last": _end(rows, starts[-1], 1) if reached else "",
        "agreement": _agreement(tracks, rows),
        "shared": slices["shared"].sum() / voxels if voxels else np.nan,
    }
    if used.empty:
        return facts | {"flags": f"skipped: {boxes['reason'].iloc[0]}"}
    areas = slices.sort_values("slice")["area"].tolist()
    inner_ends = [area for area, side in zip(areas[:1] + areas[-1:], SIDES, strict=False) if facts[side] != EDGE]
    conditions = {
        "empty": not reached,
        "box skipped": len(used) < len(boxes),
        "low predicted IoU": facts["predicted_iou"] < thresholds.predicted_iou,
        "ends abruptly": any(area >= thresholds.abrupt * max(areas) for area in inner_ends),
        "grows": max(areas, default=0) > thresholds.growth * slices[slices["direction"] == 0]["area"].max(),
        "tracks disagree": facts["agreement"] < thresholds.agreement,
        "gap": any(later - earlier > 1 for earlier, later in pairwise(reached)),
        "shares voxels": facts["shared"] > thresholds.shared,
    }
    return facts | {"flags": "; ".join(flag for flag, holds in conditions.items() if holds)}


def _end(rows: pd.DataFrame, start: int, direction: int) -> str:
    """Return why the track from the box in slice `start` ended in a direction, and in which slice."""
    ends = rows[(rows["start"] == start) & rows["direction"].isin([0, direction])].dropna(subset="ended")
    return f"{ends['ended'].iloc[0]} in slice {ends['slice'].iloc[0]}" if len(ends) else EDGE


def _agreement(tracks: Tracks, rows: pd.DataFrame) -> float:
    """Return the lowest IoU of the two masks in a slice where two tracks meet; NaN if no tracks meet."""
    masks = rows[rows["ended"].isna()]
    meetings = [group.to_dict("records") for _, group in masks.groupby("slice") if len(group) == 2]
    pairs = [[placed_mask(row, tracks.image) for row in meeting] for meeting in meetings]
    return min((first.overlap(second) for first, second in pairs), default=np.nan)
