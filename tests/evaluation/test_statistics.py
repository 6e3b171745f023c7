"""Intervals and tests on small cases counted by hand, and against the library's own functions on the same data."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline_lib.errors import DataError
from pipeline_lib.evaluation.statistics import (
    AVERAGES,
    RESAMPLES,
    ClusterSums,
    clustered,
    contrast,
    expanded,
    p_value,
    printed,
    tally,
)


def scores(*ious: float) -> pd.DataFrame:
    """Three objects in a first image, one in a second."""
    table = pd.DataFrame({"tile": [0, 0, 0, 1], "slice": [0, 0, 0, 1], "object": [1, 2, 3, 1]})
    return table.assign(iou=ious, foreground_iou=[0.5, 0.5, 0.5, 1.0], iterations=2)


def of_images(*figures: float) -> ClusterSums:
    """One seed, images that weigh alike."""
    return ClusterSums(np.array([figures]), np.ones(len(figures)))


@pytest.mark.parametrize(("miou", "expected"), [("object", 0.5), ("tile", 0.6), ("foreground", 0.75)])
def test_miou_is_averaged_as_the_config_says(miou: str, expected: float) -> None:
    assert set(AVERAGES) == {"object", "tile", "foreground"}
    assert clustered(tally([scores(0.4, 0.4, 0.4, 0.8)], "iou", miou)).value == expected


def test_seeds_are_averaged_and_their_spread_is_the_sample_standard_deviation() -> None:
    found = clustered(tally([scores(*[0.5] * 4), scores(*[0.7] * 4)], "iou"))
    assert (found.value, found.sd) == (0.6, pytest.approx(0.2 / np.sqrt(2), abs=1e-6))


def test_the_range_is_that_of_the_seeds() -> None:
    found = clustered(tally([scores(*[0.5] * 4), scores(*[0.7] * 4), scores(*[0.65] * 4)], "iou"))
    assert (found.least, found.most) == (0.5, 0.7)
    alone = printed(ClusterSums.printed(0.827))
    assert (alone.least, alone.most) == (0.827, 0.827)


def test_one_seed_has_no_spread_and_one_image_no_interval() -> None:
    found = clustered(of_images(0.5))
    assert np.isnan([found.low, found.high, found.sd]).all()
    assert np.isnan(p_value(of_images(0.5)))
    assert clustered(of_images(0.5, 0.6)).low == 0.5


def test_two_images_can_be_resampled_in_three_ways() -> None:
    """Both once, or one of them twice: an interval of two images reaches from the lower to the higher."""
    found = clustered(ClusterSums(np.array([[3.0, 0.2]]), np.array([4.0, 1.0])))
    assert (found.value, found.low, found.high) == (0.64, 0.2, 0.75)


def test_images_are_resampled_with_all_of_their_objects() -> None:
    """Objects of an image are alike: ten times as many say no more. Taken one by one, they would."""
    few, many = of_images(0.2, 0.4, 0.6, 0.8), ClusterSums(np.array([[2.0, 4.0, 6.0, 8.0]]), np.full(4, 10.0))
    assert clustered(few)[:3] == clustered(many)[:3]
    alone = clustered(of_images(*np.repeat([0.2, 0.4, 0.6, 0.8], 10)))
    assert alone.high - alone.low < 0.6 * (clustered(many).high - clustered(many).low)


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
    ours = clustered(ClusterSums(totals, counts))
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-6)


def test_the_interval_is_near_students_where_that_one_is_right() -> None:
    figures = np.random.default_rng(3).normal(0.7, 0.1, 20)
    ours, students = clustered(of_images(*figures)), stats.ttest_1samp(figures, 0).confidence_interval()
    assert (ours.low, ours.high) == pytest.approx((students.low, students.high), abs=0.006)


def test_the_same_figures_have_the_same_interval() -> None:
    figures = of_images(0.1, 0.5, 0.2, 0.9)
    assert clustered(figures)[:3] == clustered(figures)[:3]


def test_a_printed_figure_is_a_point() -> None:
    found = printed(ClusterSums.printed(0.827))
    assert found[:3] == (0.827, 0.827, 0.827)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ((1.0, 2.0, 3.0, 4.0), 2 / 16),  # only all signs as they are, or all flipped, are as extreme
        ((1.0, 2.0, 3.0, -1.0), 6 / 16),  # sums of at least 5: 7, and 5 by the sign of either 1; and their opposites
        ((0.0, 0.0, 0.0), 1.0),
    ],
)
def test_p_counts_the_signs_by_hand(differences: tuple[float, ...], expected: float) -> None:
    assert p_value(of_images(*differences)) == expected


def test_p_is_the_share_of_all_signs_that_are_as_extreme() -> None:
    differences = np.random.default_rng(1).normal(0.1, 0.2, 10)
    sums = [np.dot(signs, differences) for signs in product((1, -1), repeat=10)]
    share = np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-12)
    assert p_value(of_images(*differences)) == pytest.approx(share, abs=1e-6)


def test_many_images_are_tested_by_drawn_signs() -> None:
    differences = np.random.default_rng(2).normal(0.05, 0.2, 30)
    assert p_value(of_images(*differences)) == pytest.approx(stats.ttest_1samp(differences, 0).pvalue, abs=0.02)


def test_a_paired_difference_is_surer_than_its_rows() -> None:
    """Images differ much, rows little."""
    hard = np.linspace(0.2, 0.9, 12)
    rows = {"old": of_images(*hard), "new": of_images(*(hard + 0.02 + 0.001 * (-1) ** np.arange(12)))}
    gain = clustered(contrast(rows, {"new": 1, "old": -1}))
    assert gain.value == pytest.approx(0.02)
    assert gain.low > 0.01
    assert clustered(rows["new"]).low < clustered(rows["old"]).high


def test_a_contrast_is_a_weighted_sum_by_seed_and_image() -> None:
    one, two = ClusterSums(np.array([[1.0, 2.0], [3.0, 4.0]]), np.ones(2)), ClusterSums(np.ones((2, 2)), np.ones(2))
    found = contrast({"a": one, "b": two}, {"a": 2, "b": -1})
    np.testing.assert_array_equal(found.totals, [[1, 3], [5, 7]])


def test_rows_of_other_objects_cannot_be_compared() -> None:
    rows = {"a": of_images(0.5, 0.6), "b": ClusterSums(np.array([[0.5, 1.2]]), np.array([1.0, 2.0]))}
    with pytest.raises(DataError, match="a, b: figures of different objects"):
        contrast(rows, {"a": 1, "b": -1})
