"""How sure a figure is: intervals and tests of means over objects that come in clusters.

Objects of one slice share its contrast, its staining and their membranes, and tiles of a slice share the cells cut by
their border, so slices are what is resampled, with all of their objects. What that does not cover:

- Slices of one specimen are not independent either: successive ones show the same cells again. Intervals are about
  other slices of the same specimen, not about other specimens.
- With few slices no interval is good: below `FEW_SLICES`, take it for an indication. The tables say so.
- An object's figure is averaged over seeds first. The interval is about slices alone; about seeds are the standard
  deviation and the range, as a few of them are too few to resample.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from pipeline_lib.errors import DataError

CONFIDENCE = 0.95
FEW_SLICES = 10
RESAMPLES = 9999  # of slices, or of their signs; all 2^n signs where there are not more
SEED = 0  # the same figures have the same intervals
DECIMALS = 6  # of every number that is written; verdicts and tables are made from the rounded ones, so a tie stays one

Key = TypeVar("Key")


@dataclass(frozen=True)
class ClusterSums:
    """A figure by slice: it is the sum of the totals over the sum of the counts.

    Sums of the same test objects have the same slices and counts, and so can be subtracted.
    """

    totals: NDArray[np.float64]  # (seeds, slices)
    counts: NDArray[np.float64]  # (slices,)

    @classmethod
    def printed(cls, figure: float) -> "ClusterSums":
        """A figure of which nothing else is known."""
        return cls(np.array([[figure]]), np.array([1.0]))

    @property
    def by_seed(self) -> NDArray[np.float64]:
        """The figure of each seed, (seeds,)."""
        return np.asarray(_ratio(self.totals, self.counts))


class Estimate(NamedTuple):
    """A figure, its 95 % interval, and its deviation and range over seeds; NaN is what cannot be told."""

    value: float
    low: float
    high: float
    sd: float
    least: float = np.nan
    most: float = np.nan


def _ratio(totals: NDArray[np.float64], counts: NDArray[np.float64], axis: int = -1) -> Any:
    return totals.sum(axis) / counts.sum(axis)


class Average(NamedTuple):
    """How an mIoU is averaged: by objects, which weigh alike, or by tiles, which do."""

    words: str
    prefix: str  # of the score's column
    by: Literal["object", "tile"]


AVERAGES = {  # by the config's `miou`
    "object": Average("mean over the test objects", "", "object"),
    "tile": Average("mean over the test tiles of their objects' mean", "", "tile"),
    "foreground": Average("mean over the test tiles, all objects of one taken together,", "foreground_", "tile"),
}


def tally(scores: list[pd.DataFrame], column: str, miou: str = "object") -> ClusterSums:
    """The tally of a column of the stage score's tables, one for each seed, all of the same objects in one order."""
    average, clusters = AVERAGES[miou], []
    for table in scores:
        figures = table.set_index(["slice", "tile"])[average.prefix + column]
        if average.by == "tile":
            figures = figures.groupby(["slice", "tile"]).mean()
        clusters.append(figures.groupby("slice"))
    return ClusterSums(np.array([each.sum() for each in clusters]), np.array(clusters[0].size(), np.float64))


def contrast(tallies: Mapping[Key, ClusterSums], weights: Mapping[Key, float]) -> ClusterSums:
    """The weighted sum of some tallies of the same objects, as {new: 1, old: -1} is their difference.

    Raises:
        DataError: they are not of the same objects or seeds.
    """
    chosen = [tallies[key] for key in weights]
    counts = chosen[0].counts
    if any(not np.array_equal(each.counts, counts) or len(each.totals) != len(chosen[0].totals) for each in chosen):
        raise DataError(f"{', '.join(map(str, weights))}: figures of different objects or seeds cannot be compared")
    return ClusterSums(np.tensordot(list(weights.values()), [each.totals for each in chosen], axes=1), counts)


def clustered(tally: ClusterSums) -> Estimate:
    """The mean over seeds, with the expanded percentile interval of a bootstrap over slices.

    The interval is NaN for a single slice, the standard deviation (n − 1) for a single seed.
    """
    totals, counts = tally.totals.mean(axis=0), tally.counts
    low = high = np.nan
    if len(counts) > 1:
        low, high = stats.bootstrap(
            (totals, counts),
            _ratio,
            paired=True,
            vectorized=True,
            confidence_level=expanded(len(counts)),
            n_resamples=RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(SEED),
        ).confidence_interval
    sd = np.std(tally.by_seed, ddof=1) if len(tally.by_seed) > 1 else np.nan
    by_seed = tally.by_seed
    found = _ratio(totals, counts), low, high, sd, by_seed.min(), by_seed.max()
    return Estimate(*(round(float(figure), DECIMALS) for figure in found))


def expanded(slices: int) -> float:
    """The confidence level to ask of the percentile method, so that few slices do not make the interval too narrow.

    Hesterberg 2015, "What teachers should know about the bootstrap": resamples spread by √((n − 1) / n) too little, and
    their quantiles are the normal distribution's where Student's are due.
    """
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, slices - 1) * np.sqrt(slices / (slices - 1))
    return float(2 * stats.norm.cdf(quantile) - 1)


def printed(tally: ClusterSums) -> Estimate:
    """A printed figure, taken as exact."""
    value = round(float(tally.by_seed.mean()), DECIMALS)
    return Estimate(value, value, value, np.nan, value, value)


def p_value(difference: ClusterSums) -> float:
    """Two-sided p of no difference, by flipping the signs of whole slices (Fisher's randomisation test of pairs).

    Under the null either row could have been the other in each slice. NaN for a single slice; n slices cannot give less
    than 2 / 2^n.
    """
    if len(difference.counts) < 2:
        return np.nan
    test = stats.permutation_test(
        (difference.totals.mean(axis=0),),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(SEED),
    )
    return round(float(test.pvalue), DECIMALS)
