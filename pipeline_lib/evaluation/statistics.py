"""How sure a figure is: intervals and tests of means over objects that come in clusters.

A figure is known by its sums: a frame indexed by seed and slice, of which `sum` adds up a slice's values and `n` counts
them. A seed's figure is all of its `sum` over all of its `n`.

Objects of one slice share its contrast, its staining and their membranes, and tiles of a slice share the cells cut by
their border, so slices are what is resampled, with all of their objects. What that does not cover:

- Slices of one specimen are not independent either: successive ones show the same cells again. Intervals are about
  other slices of the same specimen, not about other specimens.
- With few slices no interval is good: below `FEW_SLICES`, take it for an indication. The tables say so.
- An object's figure is averaged over seeds first. The interval is about slices alone; about seeds are the standard
  deviation and the range, as a few of them are too few to resample.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.typing import SeriesGroupBy
from scipy import stats

from pipeline_lib.errors import DataError

CONFIDENCE = 0.95
FEW_SLICES = 10
RESAMPLES = 9999  # of slices, or of their signs; all 2^n signs where there are not more
SEED = 0  # the same figures have the same intervals
DECIMALS = 6  # of every number that is written; verdicts and tables are made from the rounded ones, so a tie stays one


class Estimate(NamedTuple):
    """A figure, its 95 % interval, and its deviation and range over seeds; NaN is what cannot be told."""

    value: float
    low: float
    high: float
    sd: float
    least: float = np.nan
    most: float = np.nan


def sums_by_group(values: "SeriesGroupBy[Any, Any]") -> pd.DataFrame:
    """Return the columns `sum` and `n` of each group, of which `estimate` makes a mean with its interval."""
    return values.agg(["sum", "size"]).rename(columns={"size": "n"})


def sums_of(sums: pd.DataFrame, *key: Any) -> pd.DataFrame:
    """The lines whose first levels of the index are `key`, indexed by the other levels."""
    lines: pd.DataFrame = sums.loc[key]
    return lines


def weighted_sum(sums: pd.DataFrame, weights: Mapping[tuple[Any, ...], float]) -> pd.DataFrame:
    """The sums of a weighted sum of figures of the same objects, as {new: 1, old: -1} is their difference.

    Args:
        sums: of several figures: its index has further levels before seed and slice.
        weights: by the values of these further levels.

    Raises:
        DataError: the figures are not of the same objects or seeds.
    """
    first, *others = terms = [sums_of(sums, *key) for key in weights]
    _check_alike(first, others, ", ".join(map(str, weights)))
    return first.assign(sum=sum(weight * term["sum"] for weight, term in zip(weights.values(), terms, strict=True)))


def share(part: pd.DataFrame, whole: pd.DataFrame) -> pd.DataFrame:
    """The sums of two figures of the same objects to those of the one's share of the other.

    `sum` is what `part` adds up to, and `n`, that it is divided by, what `whole` does.

    Raises:
        DataError: the figures are not of the same objects or seeds.
    """
    _check_alike(part, [whole], "a share")
    return part.assign(n=whole["sum"])


def _check_alike(first: pd.DataFrame, others: Iterable[pd.DataFrame], what: str) -> None:
    if any(not other["n"].equals(first["n"]) for other in others):
        raise DataError(f"{what}: figures of different objects or seeds cannot be compared")


def estimate(sums: pd.DataFrame) -> Estimate:
    """The figure of the sums' means over seeds, with the expanded percentile interval of a bootstrap over slices.

    So a share is one of means, not the mean of the seeds' shares. The interval is NaN for a single slice, and for a
    share where a slice has nothing to be a share of. The standard deviation (n − 1) is of the seeds' own figures, and
    NaN for a single seed.
    """
    by_seed, counts_by_seed = (sums[column].unstack("slice").to_numpy(np.float64) for column in ("sum", "n"))
    figures = _ratio(by_seed, counts_by_seed)  # (seeds,) of (seeds, slices)
    totals, counts = by_seed.mean(axis=0), counts_by_seed.mean(axis=0)
    low = high = np.nan
    if len(counts) > 1 and counts.all():
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
    sd = np.std(figures, ddof=1) if len(figures) > 1 else np.nan
    numbers = _ratio(totals, counts), low, high, sd, figures.min(), figures.max()
    return Estimate(*(round(float(number), DECIMALS) for number in numbers))


def _ratio(totals: NDArray[np.float64], counts: NDArray[np.float64], axis: int = -1) -> Any:
    count = counts.sum(axis)
    return np.divide(totals.sum(axis), count, out=np.full_like(count, np.nan), where=count != 0)


def expanded(slices: int) -> float:
    """The confidence level to ask of the percentile method, so that few slices do not make the interval too narrow.

    Hesterberg 2015, "What teachers should know about the bootstrap": resamples spread by √((n − 1) / n) too little, and
    their quantiles are the normal distribution's where Student's are due.
    """
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, slices - 1) * np.sqrt(slices / (slices - 1))
    return float(2 * stats.norm.cdf(quantile) - 1)


def p_value(difference: pd.DataFrame) -> float:
    """Two-sided p of no difference, by flipping the signs of whole slices (Fisher's randomisation test of pairs).

    Under the null either row could have been the other in each slice. NaN for a single slice; n slices cannot give less
    than 2 / 2^n.
    """
    totals = difference["sum"].unstack("slice").to_numpy().mean(axis=0)  # (slices,)
    if len(totals) < 2:
        return np.nan
    test = stats.permutation_test(
        (totals,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        rng=np.random.default_rng(SEED),
    )
    return round(float(test.pvalue), DECIMALS)
