"""Tabulate the segmented objects, with flags for those that a person should look at."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.data.boxes import XYXY, box_iou, grown
from pipeline_lib.data.mask_formats.mask_format import MaskSet
from pipeline_lib.data.masks import Mask, bounding_box, from_rle, iou
from pipeline_lib.data.measurements import columns, measurements
from pipeline_lib.settings.segment import Flags

GIVEN, FINAL = [f"given_{edge}" for edge in XYXY], [f"final_{edge}" for edge in XYXY]
PREDICTION = [*FINAL, "iterations", "ended", "predicted_iou", "moved", "disagreement", "flags"]
UNSTABLE = {"cycle", "cap"}  # ways to end an iteration that did not converge
FLAGS = {  # with the names of thresholds in braces
    "moved far": "your box was probably bad: it differs much from the box around the mask (IoU at most {moved:g}). "
    "The mask can be good",
    "masks disagree": "the first and the kept mask differ much (IoU at most {disagree:g})",
    "low predicted IoU": "the predicted IoU of the mask is low (below {predicted_iou:g})",
    "unstable": "the iteration did not converge",
    "empty": "the mask has no pixel",
    "touches the border": "the mask reaches the border of the image, but your box does not",
    "cut by its window": "the mask reaches the border of its window, so the object may continue beyond it",
    "cut around its box": "the mask reaches the limit around its box ({mask_extent:g} times its sides), so the object "
    "may continue beyond it",
}


def objects_table(
    masks: MaskSet, iterations: pd.DataFrame, thresholds: Flags, mask_extent: float | None
) -> pd.DataFrame:
    """Return a row for each box of the user, by the number of the box.

    Args:
        masks: Masks, boxes, windows, images and the size of a pixel.
        iterations: Rows that the stage `segment` wrote, of all shards.
        thresholds: Thresholds of the flags `moved far`, `masks disagree` and `low predicted IoU`.
        mask_extent: `refine.mask_extent`.

    Returns:
        A table with the columns

        - `image`, `slice`, `name`, `label`, `score` and `where` of the box;
        - the box of the user and the box around the mask, XYXY, in pixels of the image; NaN without a mask;
        - `iterations`, `ended` and `predicted_iou`;
        - `moved`: one minus the IoU of the two boxes;
        - `disagreement`: one minus the IoU of the first and the kept mask;
        - `flags`, separated by "; ". If the box was not prompted, it is "skipped: " and the reason;
        - `columns` of `measurements.py`.
    """
    boxes = masks.instances.prompts.boxes
    names = ["id", *PREDICTION, *columns(masks.pixel_size)]
    results = pd.DataFrame(_rows(masks, iterations, thresholds, mask_extent), columns=names).set_index("id")
    results["area"] = results["area"].astype("Int64")  # boxes without an area would turn large integers into floats
    origins = boxes[["image", "slice", "name", "label", "score", "where"]]
    table = pd.concat([origins, boxes[XYXY].set_axis(GIVEN, axis=1), results], axis=1)
    reasons = boxes["reason"]
    return table.assign(flags=table["flags"].where(reasons == "", "skipped: " + reasons))


def _rows(
    masks: MaskSet, iterations: pd.DataFrame, thresholds: Flags, mask_extent: float | None
) -> Iterator[dict[str, Any]]:
    for number, history in iterations.groupby("box", sort=False):
        yield {"id": number, **_facts(masks, int(str(number)), history, thresholds, mask_extent)}


def _facts(
    masks: MaskSet, number: int, history: pd.DataFrame, thresholds: Flags, mask_extent: float | None
) -> dict[str, Any]:
    # Masks and boxes: as the user drew the box, and as the network was prompted
    prompts = masks.instances.prompts
    image, _, y, x = prompts.place(int(history["window"].iloc[0]))
    shape = y.stop - y.start, x.stop - x.start
    output = history[history["output"]].iloc[0]
    first, mask = (from_rle(counts, shape) for counts in (history["mask"].iloc[0], output["mask"]))
    user_box = prompts.boxes.loc[number, XYXY].to_numpy(float)
    prompt = np.clip(user_box, 0, np.tile(image.shape[:0:-1], 2))
    box = bounding_box(mask) + np.tile([x.start, y.start], 2) if mask.any() else np.full(4, np.nan)
    facts = {
        **dict(zip(FINAL, box, strict=True)),
        "iterations": len(history) - 1,
        "ended": history["ended"].iloc[-1],
        "predicted_iou": float(output["predicted_iou"]),
        "moved": 1 - float(box_iou(prompt, box)) if mask.any() else np.nan,
        "disagreement": 1 - float(iou(first, mask)),
    }
    # Flags. Sides are in the order top, left, bottom, right
    sides = touched(mask)
    ends = np.array([y.start == 0, x.start == 0, y.stop == image.shape[1], x.stop == image.shape[2]])
    box_touches = np.concatenate([user_box[1::-1] <= 0, user_box[:1:-1] >= image.shape[1:]])
    conditions = {
        "moved far": 1 - facts["moved"] <= thresholds.moved,
        "masks disagree": 1 - facts["disagreement"] <= thresholds.disagree,
        "low predicted IoU": facts["predicted_iou"] < thresholds.predicted_iou,
        "unstable": facts["iterations"] > 0 and facts["ended"] in UNSTABLE,
        "empty": not mask.any(),
        "touches the border": (sides & ends & ~box_touches).any(),
        "cut by its window": (sides & ~ends).any(),
        "cut around its box": mask_extent is not None
        and ends_with(mask, output[XYXY].to_numpy(np.float32), mask_extent),
    }
    flags = "; ".join(flag for flag, holds in conditions.items() if holds)
    return {**facts, "flags": flags, **_measurements(masks, number)}


def _measurements(masks: MaskSet, number: int) -> dict[str, float]:
    if number not in masks.instances.masks:  # an empty mask
        return measurements(np.zeros((1, 1), bool), np.zeros((1, 1), np.uint8), masks.pixel_size)
    mask = masks.instances.masks[number]
    image, z, *_ = masks.instances.prompts.place(mask.window)
    grey = masks.pixels(image, z, slice(mask.y0, mask.y1), slice(mask.x0, mask.x1))
    return measurements(masks.instances.crop(number), grey, masks.pixel_size)


def touched(mask: Mask) -> NDArray[np.bool_]:
    """Return whether a mask reaches its first row, first column, last row and last column, as (4,) bool."""
    return np.array([mask[0].any(), mask[:, 0].any(), mask[-1].any(), mask[:, -1].any()])


def ends_with(mask: Mask, box: NDArray[np.float32], mask_extent: float) -> bool:
    """Return whether a mask reaches an edge of its enlarged box that lies within the window.

    Args:
        mask: (h, w), of the window.
        box: (4,), XYXY, the prompt in pixels of the window.
        mask_extent: Factor by which the box is enlarged.
    """
    if not mask.any():
        return False
    # A pixel is inside the enlarged box if its centre is, as in `Frame.pixels`
    low, high = np.ceil(grown(box[None], mask_extent)[0] - 0.5).reshape(2, 2)
    first, last = bounding_box(mask).reshape(2, 2)
    return bool(((first == low) & (low > 0) | (last == high) & (high < mask.shape[::-1])).any())
