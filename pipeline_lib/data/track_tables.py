"""Tables of the objects of a volume: a row for each mask of an object in a slice, and a row for each object."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.surfaces import surface_areas
from pipeline_lib.data.tracks import Tracks, object_numbers, placed_mask
from pipeline_lib.settings.segment import TrackFlags

UM3 = 1e-9  # cubic micrometres of a cubic nanometre
EDGE = "end of the volume"
SIDES = ("before_first", "after_last")
TOLD, MEASURED = ("slice", "object", "start", "direction"), ("predicted_iou", "overlap", "confidence", "likeness")
FLAGS = {
    "empty": "no pixel was found in the slice of its box",
    "box skipped": "one of its boxes could not be used, and its other boxes stand alone",
    "low predicted IoU": "the mean predicted IoU of its masks is low (below track.flags.predicted_iou)",
    "ends abruptly": "at an end its mask is still large (at least track.flags.abrupt of its largest one)",
    "grows": "its largest mask is much larger than that in the slice of a box (more than track.flags.growth times)",
    "tracks disagree": "two boxes of the object lead to different masks (IoU below track.flags.agreement)",
    "gap": "there are slices without a mask between two boxes of the object",
    "shares voxels": "many of its voxels belong to another object as well (more than track.flags.shared)",
}

ENDS = {
    "empty": "the mask has no pixel",
    "overlap": "its IoU with the mask of the neighbouring slice that it came from is low (below track.overlap)",
    "confidence": "the predicted IoU is too small a share of its mean over the masks so far (below track.confidence)",
    "likeness": "the greys inside the mask are too unlike those inside its masks so far (below track.likeness)",
}


def slices_table(tracks: Tracks) -> pd.DataFrame:
    """Return a row for each mask of an object in a slice, by slice and object.

    Returns:
        `slice`, `object`, `start` and `direction` of the track; `area` and `shared`, pixels: all, and those that belong
        to another object in the label image; `predicted_iou`; `overlap`, `confidence` and `likeness` as in
        `TRACKS`; the box around the mask, XYXY pixels.
    """
    rows = []
    for z, masks in tracks.masks.groupby("slice"):
        instances = tracks.instances(int(str(z)))
        for row in masks.to_dict("records"):
            found = instances.masks[row["object"]]
            y, x = slice(found.y0, found.y1), slice(found.x0, found.x1)
            area = int(instances.crop(row["object"]).sum())
            labelled = int((instances.numbers(tracks.image.name, int(str(z)), y, x) == row["object"]).sum())
            box = dict(zip(XYXY, (found.x0, found.y0, found.x1, found.y1), strict=True))
            told = {key: row[key] for key in (*TOLD, *MEASURED)}
            rows.append(told | box | {"area": area, "shared": area - labelled})
    return pd.DataFrame(rows, columns=[*TOLD, "area", "shared", *MEASURED, *XYXY])


def volume_table(
    tracks: Tracks, slices: pd.DataFrame, pixel_size: Sequence[float] | None, thresholds: TrackFlags
) -> pd.DataFrame:
    """Return a row for each object, by number.

    Args:
        tracks: Masks of all objects.
        slices: `slices_table`.
        pixel_size: ZYX, nm; None if it is not known.
        thresholds: Of the flags.

    Returns:
        `name` and `label` of its first box; `boxes`, the slices of its boxes; `first_slice`, `last_slice` and
        `slices`, how many have a mask; `voxels`; `volume_um3` and `surface_um2` (`surface_areas`), NaN without a pixel
        size; `predicted_iou`, the mean over its masks; `before_first` and `after_last`, why it ended there, as
        "likeness 0.302 < 0.45 in slice 8"; `agreement`, the lowest IoU of two masks where
        tracks meet, NaN without; `shared`, the share of its voxels that belong to another object in the label image;
        `flags`, parted by "; ".
    """
    boxes = tracks.prompts.boxes
    rows = {
        int(str(number)): _facts(tracks, int(str(number)), slices[slices["object"] == number], of_object, thresholds)
        for number, of_object in boxes.groupby(object_numbers(boxes))
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
    raised = {
        "empty": not reached,
        "box skipped": len(used) < len(boxes),
        "low predicted IoU": facts["predicted_iou"] < thresholds.predicted_iou,
        "ends abruptly": any(area >= thresholds.abrupt * max(areas) for area in inner_ends),
        "grows": max(areas, default=0) > thresholds.growth * slices[slices["direction"] == 0]["area"].max(),
        "tracks disagree": facts["agreement"] < thresholds.agreement,
        "gap": any(later - earlier > 1 for earlier, later in pairwise(reached)),
        "shares voxels": facts["shared"] > thresholds.shared,
    }
    return facts | {"flags": "; ".join(flag for flag, is_raised in raised.items() if is_raised)}


def _end(rows: pd.DataFrame, start: int, direction: int) -> str:
    """Return why the track from a box ended, and in which slice."""
    ended = rows[(rows["start"] == start) & rows["direction"].isin([0, direction])].dropna(subset="ended")
    return f"{ended['ended'].iloc[0]} in slice {ended['slice'].iloc[0]}" if len(ended) else EDGE


def _agreement(tracks: Tracks, rows: pd.DataFrame) -> float:
    """Return the lowest IoU of the two masks of a slice in which tracks meet, NaN if none do."""
    kept = rows[rows["ended"].isna()]
    meetings = [group.to_dict("records") for _, group in kept.groupby("slice") if len(group) == 2]
    pairs = [[placed_mask(row, tracks.image) for row in meeting] for meeting in meetings]
    return min((first.overlap(second) for first, second in pairs), default=np.nan)
