"""Intervals and tests on small cases counted by hand, and against the library's own functions on the same data."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from helpers.figures import by_slice
from scipy import stats

from pipeline_lib.errors import DataError
from pipeline_lib.evaluation.statistics import RESAMPLES, estimate, expanded, p_value, share, weighted_sum


def test_seeds_are_averaged_and_their_spread_is_the_sample_standard_deviation() -> None:
    figure = estimate(by_slice([[1.5, 0.5], [2.1, 0.7]], [3, 1]))
    assert (figure.value, figure.sd) == (0.6, pytest.approx(0.2 / np.sqrt(2), abs=1e-6))


def test_the_range_is_that_of_the_seeds() -> None:
    figure = estimate(by_slice([[1.5, 0.5], [2.1, 0.7], [1.95, 0.65]], [3, 1]))
    assert (figure.least, figure.most) == (0.5, 0.7)


def test_one_seed_has_no_spread_and_one_slice_no_interval() -> None:
    figure = estimate(by_slice([0.5]))
    assert figure.value == 0.5
    assert np.isnan([figure.low, figure.high, figure.sd]).all()
    assert np.isnan(p_value(by_slice([0.5])))
    assert estimate(by_slice([0.5, 0.6])).low == 0.5


def test_two_slices_can_be_resampled_in_three_ways() -> None:
    """Both once, or one of them twice: an interval of two slices reaches from the lower to the higher."""
    assert estimate(by_slice([3.0, 0.2], [4, 1]))[:3] == (0.64, 0.2, 0.75)


def test_slices_are_resampled_with_all_of_their_objects() -> None:
    """Objects of a slice are alike: ten times as many say no more. Taken one by one, they would."""
    few, many = estimate(by_slice([0.2, 0.4, 0.6, 0.8])), estimate(by_slice([2, 4, 6, 8], [10] * 4))
    assert few[:3] == many[:3]
    alone = estimate(by_slice(np.repeat([0.2, 0.4, 0.6, 0.8], 10)))
    assert alone.high - alone.low < 0.6 * (many.high - many.low)


def test_the_interval_is_the_librarys() -> None:
    rng = np.random.default_rng(5)
    totals, counts = rng.random((3, 12)) * 20, rng.integers(1, 40, 12).astype(float)
    theirs = stats.bootstrap(
        (totals.mean(0), counts),
        lambda t, c, axis: t.sum(axis) / c.sum(axis),
        paired=True,
        n_resamples=RESAMPLES,
        confidence_level=expanded(12),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    ours = estimate(by_slice(totals, counts))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_the_interval_is_near_students_where_that_one_is_right() -> None:
    figures = np.random.default_rng(3).normal(0.7, 0.1, 20)
    ours, students = estimate(by_slice(figures)), stats.ttest_1samp(figures, 0).confidence_interval()
    assert (ours.low, ours.high) == pytest.approx((students.low, students.high), abs=0.006)


def test_the_same_figures_have_the_same_interval() -> None:
    figures = by_slice([0.1, 0.5, 0.2, 0.9])
    assert estimate(figures)[:3] == estimate(figures)[:3]


def test_equal_slices_are_a_point() -> None:
    figure = estimate(by_slice([0.827, 0.827]))
    assert figure[:3] == (0.827, 0.827, 0.827)
    assert (figure.least, figure.most) == (0.827, 0.827)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((1.0, 2.0, 3.0, 4.0), 2 / 16),  # only all signs as they are, or all flipped, are as extreme
        ((1.0, 2.0, 3.0, -1.0), 6 / 16),  # sums of at least 5: 7, and 5 by the sign of either 1; and their opposites
        ((0.0, 0.0, 0.0), 1.0),
    ],
)
def test_p_counts_the_signs_by_hand(differences: tuple[float, ...], expected: float) -> None:
    assert p_value(by_slice(differences)) == expected


def test_p_is_the_share_of_all_signs_that_are_as_extreme() -> None:
    differences = np.random.default_rng(1).normal(0.1, 0.2, 10)
    sums = [np.dot(signs, differences) for signs in product((1, -1), repeat=10)]
    share = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-12)
    assert p_value(by_slice(differences)) == pytest.approx(share, abs=1e-6)


def test_many_slices_are_tested_by_drawn_signs() -> None:
    differences = np.random.default_rng(2).normal(0.05, 0.2, 30)
    assert p_value(by_slice(differences)) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)


def test_a_paired_difference_is_surer_than_its_rows() -> None:
    """Slices differ much, rows little."""
    hard = np.linspace(0.2, 0.9, 12)
    new, old = by_slice(hard + 0.02 + 0.001 * (-1) ** np.arange(12)), by_slice(hard)
    gain = estimate(weighted_sum(pd.concat({"new": new, "old": old}), {("new",): 1, ("old",): -1}))
    assert gain.value == pytest.approx(0.02)
    assert gain.low > 0.01
    assert estimate(new).low < estimate(old).high


def test_a_share_is_of_each_seeds_own_whole() -> None:
    """One seed keeps .5 and one .75; a slice of the means .5 and one .75."""
    part, whole = by_slice([[1, 1], [1, 2]], [3, 5]), by_slice([[2, 2], [2, 2]], [3, 5])
    kept = estimate(share(part, whole))
    assert kept == pytest.approx((2.5 / 4, 0.5, 0.75, 0.25 / np.sqrt(2), 0.5, 0.75), abs=1e-6)


def test_a_share_is_of_the_same_objects() -> None:
    with pytest.raises(DataError, match="different objects or seeds"):
        share(by_slice([1, 1], [3, 5]), by_slice([1, 1], [3, 4]))


def test_a_share_of_nothing_is_unknown() -> None:
    nothing = by_slice([0.0, 0.0, 0.0])
    assert np.isnan(estimate(share(nothing, nothing))).all()
    kept = estimate(share(by_slice([0.4, 0.0]), by_slice([0.8, 0.0])))
    assert kept.value == 0.5
    assert np.isnan([kept.low, kept.high]).all()


def test_a_weighted_sum_is_by_seed_and_slice() -> None:
    rows = pd.concat({"a": by_slice([[1, 2], [3, 4]]), "b": by_slice(np.ones((2, 2)))})
    pd.testing.assert_frame_equal(weighted_sum(rows, {("a",): 2, ("b",): -1}), by_slice([[1, 3], [5, 7]]))


@pytest.mark.parametrize(
    "other",
    [
        by_slice([0.5, 1.2], [1, 2]),
        by_slice([0.5, 0.6, 0.7]),
        by_slice([[0.5, 0.6], [0.5, 0.6]]),
        by_slice([0.5, 0.6]).rename(index={1: 2}, level="slice"),
    ],
    ids=["counts", "slices", "seeds", "places"],
)
def test_rows_of_other_objects_cannot_be_compared(other: pd.DataFrame) -> None:
    rows = pd.concat({("a", 0): by_slice([0.5, 0.6]), ("b", 0): other})
    with pytest.raises(DataError, match=r"\('a', 0\), \('b', 0\): figures of different objects"):
        weighted_sum(rows, {("a", 0): 1, ("b", 0): -1})
