"""Each claim once shown and once not, on the paper's figures and on slices written by hand."""

import numpy as np
import pandas as pd
import pytest
from helpers.figures import of_data_set
from numpy.typing import ArrayLike

from pipeline_lib.evaluation.claims import CLAIMS, decide, with_interval
from pipeline_lib.evaluation.published import ITERATIONS, LEVELS, MIOU, PK, SAM, SAM_P, P, Row
from pipeline_lib.evaluation.statistics import Estimate

BARS = {"max_loss": 0.01, "min_gain_ratio": 2.0, "max_time_ratio": 1.5}
C1, C2, C3, C4, C5 = CLAIMS
NOT_TIMED = pd.DataFrame(columns=["encode", "first", "repeated", "iterations"])


def verdict(claim: str, sums: pd.DataFrame, seconds: pd.DataFrame = NOT_TIMED) -> str:
    return decide(claim, sums, seconds, BARS)[0]


def as_printed(miou: dict[tuple[Row, int], float], iterations: dict[int, float]) -> pd.DataFrame:
    """Figures of which nothing else is known: two equal slices, whose interval is a point."""
    return of_data_set(
        {key: (figure, figure) for key, figure in miou.items()},
        {level: (count, count) for level, count in iterations.items()},
    )


def miou_of(table: str) -> dict[tuple[Row, int], float]:
    return {(row, level): figure for row, by_level in MIOU[table].items() for level, figure in by_level.items()}


def with_miou(changed: dict[tuple[Row, int], float]) -> pd.DataFrame:
    """The paper's first table with other figures."""
    return as_printed(miou_of("em") | changed, ITERATIONS["em"])


def with_iterations(*counts: float) -> pd.DataFrame:
    return as_printed(miou_of("em"), dict(zip(LEVELS, counts, strict=True)))


def timed(*repeated: float) -> pd.DataFrame:
    """0.5 s a tile without K; a figure for each seed."""
    return pd.DataFrame({"encode": 0.4, "first": 0.1, "repeated": repeated, "iterations": 3.0})


def measured(
    differences: dict[tuple[Row, int], tuple[float, ...]], iterations: dict[int, tuple[float, ...]]
) -> pd.DataFrame:
    """Four slices that weigh alike: what each row and level has beyond 0.5, slice by slice, and iterations."""
    known = {(row, level): (0.0,) * 4 for row in (SAM, SAM_P, P, PK) for level in LEVELS} | differences
    return of_data_set({key: np.array(figures) + 0.5 for key, figures in known.items()}, iterations)


@pytest.mark.parametrize(
    ("table", "verdicts"),
    [
        ("em", ["shown", "shown", "shown", "shown", "not run"]),
        # At 30 % K gains .013 where P gains .015: more, but by far less than twice.
        ("isbi2012", ["shown", "contradicted", "shown", "shown", "not run"]),
        ("epfl", ["shown", "shown", "shown", "shown", "not run"]),
    ],
)
def test_the_papers_own_figures_are_judged_as_printed(table: str, verdicts: list[str]) -> None:
    assert [verdict(claim, as_printed(miou_of(table), ITERATIONS[table])) for claim in CLAIMS] == verdicts


@pytest.mark.parametrize("row", [SAM, SAM_P])
@pytest.mark.parametrize("level", [30, 40])
def test_a_tie_with_either_sam_row_at_either_level_refutes_c1(row: Row, level: int) -> None:
    assert verdict(C1, with_miou({(row, level): MIOU["em"][P][level]})) == "contradicted"


def test_c2_needs_a_gain_of_k_even_where_p_loses_to_sam() -> None:
    assert verdict(C2, with_miou({(P, 30): 0.700})) == "shown"
    assert verdict(C2, with_miou({(P, 30): 0.700, (PK, 30): 0.700})) == "contradicted"


def test_c2_needs_more_than_the_factor() -> None:
    assert verdict(C2, with_miou({(PK, 30): 0.722})) == "contradicted"  # .714 + 2 × (.714 - .710): just the factor
    assert verdict(C2, with_miou({(PK, 30): 0.7221})) == "shown"


@pytest.mark.parametrize("level", [0, 10, 20])
def test_c3_allows_the_max_loss_and_no_more(level: int) -> None:
    without = MIOU["em"][P][level]
    assert verdict(C3, with_miou({(PK, level): without - 0.01})) == "shown"
    assert verdict(C3, with_miou({(PK, level): without - 0.0101})) == "contradicted"


def test_c4_refuses_a_fall_and_a_flat_line() -> None:
    assert verdict(C4, with_iterations(1, 1, 1, 1, 1.1)) == "shown"
    assert verdict(C4, with_iterations(1, 1.2, 1.1, 2, 3)) == "contradicted"
    assert verdict(C4, with_iterations(1, 1, 1, 1, 1)) == "contradicted"


def test_c5_is_a_ratio_of_times_on_which_all_seeds_must_agree() -> None:
    sums = with_miou({})
    assert verdict(C5, sums, timed(0.25)) == "shown"
    assert verdict(C5, sums, timed(0.26)) == "contradicted"
    assert verdict(C5, sums, timed(0.24, 0.25)) == "shown"
    assert verdict(C5, sums, timed(0.24, 0.26)) == "undecided"


SURE, UNSURE, SURELY_NOT = (0.02, 0.03, 0.03, 0.04), (-0.05, 0.02, 0.03, 0.06), (-0.02, -0.03, -0.03, -0.04)


@pytest.mark.parametrize(
    ("at_30", "at_40", "expected"),
    [
        (SURE, SURE, "shown"),
        (SURE, UNSURE, "undecided"),
        (UNSURE, UNSURE, "undecided"),
        (UNSURE, SURELY_NOT, "contradicted"),
        (SURE, (0.0,) * 4, "contradicted"),
    ],
)
def test_c1_is_decided_by_the_intervals(at_30: tuple[float, ...], at_40: tuple[float, ...], expected: str) -> None:
    assert verdict(C1, measured({(P, 30): at_30, (P, 40): at_40}, {})) == expected


def test_c2_compares_gains_slice_by_slice() -> None:
    """P gains .03 on average and K .07 beyond: more than twice that in every slice, or only on average."""
    by_token, in_step = (0.01, 0.02, 0.03, 0.06), (0.04, 0.07, 0.10, 0.19)  # P + K over SAM
    steady = {(row, level): gains for level in (30, 40) for row, gains in ((P, by_token), (PK, in_step))}
    assert verdict(C2, measured(steady, {})) == "shown"
    erratic = {**steady, (PK, 40): (0.19, 0.10, 0.07, 0.04)}
    assert verdict(C2, measured(erratic, {})) == "undecided"


@pytest.mark.parametrize(
    ("at_10", "expected"),
    [
        ((-0.004, -0.005, -0.006, -0.005), "shown"),
        ((-0.03, 0.0, 0.0, -0.01), "undecided"),
        ((-0.02, -0.021, -0.022, -0.02), "contradicted"),
    ],
)
def test_c3_is_decided_by_the_intervals(at_10: tuple[float, ...], expected: str) -> None:
    assert verdict(C3, measured({(PK, 10): at_10}, {})) == expected


@pytest.mark.parametrize(
    ("at_0", "at_20", "at_40", "expected"),
    [
        ((1.0, 1.1, 1.2, 1.3), (1.0, 1.1, 1.2, 1.3), (2.0, 2.3, 2.2, 2.6), "shown"),  # a flat step falls not
        ((1.0, 1.1, 1.2, 1.3), (1.3, 1.0, 1.0, 1.1), (2.0, 2.3, 2.2, 2.6), "undecided"),  # may fall in between
        ((1.0, 1.1, 1.2, 1.3), (0.5, 0.6, 0.6, 0.8), (2.0, 2.3, 2.2, 2.6), "contradicted"),  # does
        ((1.0, 1.1, 1.2, 1.3), (1.0, 1.1, 1.2, 1.3), (1.5, 1.0, 1.1, 1.5), "undecided"),
    ],
)
def test_c4_compares_the_same_objects_at_each_level(
    at_0: tuple[float, ...], at_20: tuple[float, ...], at_40: tuple[float, ...], expected: str
) -> None:
    assert verdict(C4, measured({}, {0: at_0, 20: at_20, 40: at_40})) == expected


@pytest.mark.parametrize(
    ("by_seed", "expected"),
    [
        ((0.01, 0.02, 0.03), "shown"),
        ((-0.01, 0.03, 0.04), "undecided"),  # on all slices alike, yet of one training in three not so
        ((0.01, -0.03, -0.04), "undecided"),
        ((-0.01, -0.02, -0.03), "contradicted"),
    ],
)
def test_what_seeds_disagree_on_is_undecided(by_seed: tuple[float, ...], expected: str) -> None:
    gain = np.array(by_seed)[:, None] + np.linspace(-0.001, 0.001, 4)
    miou = {(row, level): 0.5 + gain * (row == P) for row in (SAM, SAM_P, P) for level in (30, 40)}
    assert verdict(C1, of_data_set(miou, {})) == expected


def test_a_single_slice_decides_nothing() -> None:
    one: dict[tuple[Row, int], ArrayLike] = {key: [figure] for key, figure in miou_of("em").items()}
    assert verdict(C1, of_data_set(one, {})) == "undecided"


def test_a_claim_without_its_figure_names_what_was_not_run() -> None:
    miou = miou_of("em")
    del miou[SAM_P, 40]
    assert decide(C1, as_printed(miou, {}), NOT_TIMED, BARS) == ("not run", "SAM + P at 40 % was not run")
    assert decide(C5, as_printed(miou, {}), NOT_TIMED, BARS) == ("not run", "proposed P + K at 40 % was not timed")


def test_a_single_level_leaves_c4_open() -> None:
    assert verdict(C4, as_printed(miou_of("em"), {0: 1.0})) == "not run"


def test_a_difference_is_written_with_its_spread_and_interval() -> None:
    assert with_interval(Estimate(0.0123, 0.001, 0.0236, 0.0021)) == "+.0123 ± .0021 [+.0010, +.0236]"
