"""Intervals and tests for means over objects that come in clusters.

A figure is computed from its sums: a frame indexed by seed and slice, with the `sum` of a slice's values and their
number `n`. The figure of a seed is the total of `sum` over the total of `n`.

Objects of a slice share its contrast, its staining and their membranes. Tiles of a slice share the cells that their
border cuts. So whole slices are resampled, with all of their objects. Limits:

- Slices of one specimen are not independent either: successive slices show the same cells. Intervals are about other
  slices of the same specimen, not about other specimens.
- With fewer than `FEW_SLICES` slices, an interval is only an indication. The tables say so.
- The value of an object is averaged over seeds first, so intervals are only about slices. Standard deviation and range
  are about seeds, as there are too few seeds to resample.
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
RESAMPLES = 9999  # of slices, or of their signs; if there are fewer than that, all 2^n signs
SEED = 0  # fixed, so that equal figures have equal intervals
DECIMALS = 6  # of every written number; verdicts and tables use the rounded numbers, so that ties remain ties


class Estimate(NamedTuple):
    """A figure with its 95 % interval, and its standard deviation and range over seeds. NaN: it cannot be computed."""

    value: float
    low: float
    high: float
    sd: float
    least: float = np.nan
    most: float = np.nan


def sums_by_group(values: "SeriesGroupBy[Any, Any]") -> pd.DataFrame:
    """Return the columns `sum` and `n` of each group, from which `estimate` computes a mean with its interval."""
    return values.agg(["sum", "size"]).rename(columns={"size": "n"})


def sums_of(sums: pd.DataFrame, *key: Any) -> pd.DataFrame:
    """Return the lines whose first index levels are `key`, indexed by the remaining levels."""
    lines: pd.DataFrame = sums.loc[key]
    return lines


def weighted_sum(sums: pd.DataFrame, weights: Mapping[tuple[Any, ...], float]) -> pd.DataFrame:
    """Return the sums of a weighted sum of figures, such as the difference {new: 1, old: -1}.

    Args:
        sums: sums of several figures. Their index has further levels before seed and slice.
        weights: weight of each figure, by its values of these further levels.

    Raises:
        DataError: the figures are not of the same objects or seeds.
    """
    first, *others = terms = [sums_of(sums, *key) for key in weights]
    _check_alike(first, others, ", ".join(map(str, weights)))
    return first.assign(sum=sum(weight * term["sum"] for weight, term in zip(weights.values(), terms, strict=True)))


def share(part: pd.DataFrame, whole: pd.DataFrame) -> pd.DataFrame:
    """Return the sums of the share that one figure is of another: `sum` is that of `part`, `n` is `sum` of `whole`.

    Raises:
        DataError: the figures are not of the same objects or seeds.
    """
    _check_alike(part, [whole], "a share")
    return part.assign(n=whole["sum"])


def _check_alike(first: pd.DataFrame, others: Iterable[pd.DataFrame], name: str) -> None:
    if any(not other["n"].equals(first["n"]) for other in others):
        raise DataError(
            f"{name}: figures of different objects or seeds cannot be compared; run the stage score again for all cells"
        )


def estimate(sums: pd.DataFrame) -> Estimate:
    """Return the figure of sums that are averaged over seeds, with the bootstrap interval over slices.

    A share is therefore a share of means, not the mean of the seeds' shares. The interval is the expanded percentile
    interval. It is NaN for a single slice, and for a share if `n` of a slice is 0. The standard deviation (n − 1) is
    over the figures of the seeds, and NaN for a single seed.
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
    """Return the confidence level that gives the percentile method the right width for few slices.

    From Hesterberg 2015, "What teachers should know about the bootstrap": the spread of resamples is too small by
    √((n − 1) / n), and their quantiles are those of the normal distribution instead of Student's.
    """
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, slices - 1) * np.sqrt(slices / (slices - 1))
    return float(2 * stats.norm.cdf(quantile) - 1)


def p_value(difference: pd.DataFrame) -> float:
    """Return the two-sided p of no difference, by flipping the signs of whole slices (Fisher's test of pairs).

    Under the null hypothesis, the two rows are exchangeable in each slice. With n slices, p is at least 2 / 2^n. It is
    NaN for a single slice.
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
