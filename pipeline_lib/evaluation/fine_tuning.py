"""Measure what fine-tuning gained on the held-out objects."""

from collections.abc import Mapping
from typing import Literal

import pandas as pd

from pipeline_lib.evaluation.statistics import DECIMALS, estimate, sums_by_group, weighted_sum

When = Literal["before", "after"]


def gains(scores: Mapping[tuple[When, int], pd.DataFrame]) -> pd.DataFrame:
    """Return the mIoU of the held-out objects before and after training, with a row for each level of deviation.

    Args:
        scores: tables of the stage score, by "before" or "after" and level (per cent).

    Returns:
        Columns level, objects; first_before and first_after: mIoU of first masks; before and after: mIoU of the masks
        that `predict` writes; gain, gain_low, gain_high: paired difference of before and after with its 95 % interval,
        which resamples images. The interval is NaN for a single held-out image.
    """
    rows = []
    for level in sorted({level for _, level in scores}):
        before, after = scores["before", level], scores["after", level]
        both = pd.concat([before.assign(when="before"), after.assign(when="after")]).assign(seed=0)
        sums = sums_by_group(both.groupby(["when", "seed", "slice"])["iou_iterated"])
        gain = estimate(weighted_sum(sums, {("after",): 1, ("before",): -1}))
        rows.append(
            {
                "level": level,
                "objects": len(after),
                "first_before": before["iou"].mean(),
                "first_after": after["iou"].mean(),
                "before": before["iou_iterated"].mean(),
                "after": after["iou_iterated"].mean(),
                "gain": gain.value,
                "gain_low": gain.low,
                "gain_high": gain.high,
            }
        )
    return pd.DataFrame(rows).round(DECIMALS)
