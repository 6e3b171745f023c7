"""What segmentation came to, box by box: a table with flags for what somebody should look at."""

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
UNSTABLE = {"cycle", "cap"}  # ways to end an iteration that did not settle
FLAGS = {
    "moved far": "the box around the mask overlaps the given one little (IoU up to flags.moved)",
    "masks disagree": "the first and the iterated mask overlap little (IoU up to flags.disagree)",
    "unstable": "the iteration did not settle",
    "empty": "no pixel was found to be of the object",
    "touches the border": "the mask reaches the image's border, and the given box does not",
    "cut by its window": "the mask reaches the end of what the network saw, so the object may go on beyond it",
    "cut around its box": "the mask reaches the end of what counts around its prompted box, so the object may go on",
}


def objects_table(
    masks: MaskSet, iterations: pd.DataFrame, thresholds: Flags, mask_extent: float | None
) -> pd.DataFrame:
    """A row for each given box, in their order, by number.

    Args:
        masks: boxes, windows, images and the size of a pixel.
        iterations: the stage segment's rows, of all shards.
        thresholds: of the flags `moved far` and `masks disagree`.
        mask_extent: `refine.mask_extent`.

    Returns:
        Of each box `image`, `slice`, `name`, `label`, `score`, `where`; the given box and that around the mask, XYXY
        pixels of the image (NaN without a mask); `iterations`, `ended`, `predicted_iou`; `moved`, one minus the IoU of
        the two boxes; `disagreement`, one minus that of first and iterated mask; `flags`, parted by "; ", of a box that
        was not prompted "skipped: " and why; `columns` of `measurements.py`.
    """
    given = masks.instances.given
    names = ["id", *PREDICTION, *columns(masks.pixel_size)]
    made = pd.DataFrame(_rows(masks, iterations, thresholds, mask_extent), columns=names).set_index("id")
    made["area"] = made["area"].astype("Int64")  # so that no digit is lost where a box has no area
    told = given.boxes[["image", "slice", "name", "label", "score", "where"]]
    table = pd.concat([told, given.boxes[XYXY].set_axis(GIVEN, axis=1), made], axis=1)
    skipped = given.boxes["reason"]
    return table.assign(flags=table["flags"].where(skipped == "", "skipped: " + skipped))


def _rows(
    masks: MaskSet, iterations: pd.DataFrame, thresholds: Flags, mask_extent: float | None
) -> Iterator[dict[str, Any]]:
    for number, history in iterations.groupby("box", sort=False):
        yield {"id": number, **_facts(masks, int(str(number)), history, thresholds, mask_extent)}


def _facts(
    masks: MaskSet, number: int, history: pd.DataFrame, thresholds: Flags, mask_extent: float | None
) -> dict[str, Any]:
    given = masks.instances.given
    image, _, y, x = given.place(int(history["window"].iloc[0]))
    shape = y.stop - y.start, x.stop - x.start
    output = history[history["output"]].iloc[0]
    first, mask = (from_rle(counts, shape) for counts in (history["mask"].iloc[0], output["mask"]))
    asked = given.boxes.loc[number, XYXY].to_numpy(float)
    prompt = np.clip(asked, 0, np.tile(image.shape[:0:-1], 2))  # as it was prompted
    box = bounding_box(mask) + np.tile([x.start, y.start], 2) if mask.any() else np.full(4, np.nan)
    facts = {
        **dict(zip(FINAL, box, strict=True)),
        "iterations": len(history) - 1,
        "ended": history["ended"].iloc[-1],
        "predicted_iou": float(output["predicted_iou"]),
        "moved": 1 - float(box_iou(prompt, box)) if mask.any() else np.nan,
        "disagreement": 1 - float(iou(first, mask)),
    }
    sides = touched(mask)
    ends = np.array([y.start == 0, x.start == 0, y.stop == image.shape[1], x.stop == image.shape[2]])
    expected = np.concatenate([asked[1::-1] <= 0, asked[:1:-1] >= image.shape[1:]])
    raised = {
        "moved far": 1 - facts["moved"] <= thresholds.moved,
        "masks disagree": 1 - facts["disagreement"] <= thresholds.disagree,
        "unstable": facts["iterations"] > 0 and facts["ended"] in UNSTABLE,
        "empty": not mask.any(),
        "touches the border": (sides & ends & ~expected).any(),
        "cut by its window": (sides & ~ends).any(),
        "cut around its box": mask_extent is not None
        and ends_with(mask, output[XYXY].to_numpy(np.float32), mask_extent),
    }
    flags = "; ".join(flag for flag, is_raised in raised.items() if is_raised)
    return {**facts, "flags": flags, **_measurements(masks, number)}


def _measurements(masks: MaskSet, number: int) -> dict[str, float]:
    if number not in masks.instances.masks:  # an empty mask
        return measurements(np.zeros((1, 1), bool), np.zeros((1, 1), np.uint8), masks.pixel_size)
    mask = masks.instances.masks[number]
    image, z, *_ = masks.instances.given.place(mask.window)
    grey = masks.pixels(image, z, slice(mask.y0, mask.y1), slice(mask.x0, mask.x1))
    return measurements(masks.instances.crop(number), grey, masks.pixel_size)


def touched(mask: Mask) -> NDArray[np.bool_]:
    """Whether a mask reaches the first row and column, and the last row and column."""
    return np.array([mask[0].any(), mask[:, 0].any(), mask[-1].any(), mask[:, -1].any()])


def ends_with(mask: Mask, box: NDArray[np.float32], mask_extent: float) -> bool:
    """Whether a mask (h, w) reaches an end, within (h, w), of a box so many times as large as the one it is of."""
    if not mask.any():
        return False
    low, high = np.ceil(grown(box[None], mask_extent)[0] - 0.5).reshape(2, 2)  # pixels' centres, as `Frame.pixels`
    first, last = bounding_box(mask).reshape(2, 2)
    return bool(((first == low) & (low > 0) | (last == high) & (high < mask.shape[::-1])).any())
