"""Decide the paper's claims C1 to C5 on the figures of a data set, by intervals of paired differences.

A claim consists of conditions: a difference is above a bar. A condition is

- shown if the whole 95 % interval and each seed meet it;
- contradicted if no part of the interval and no seed meets it;
- undecided otherwise.

Both are needed, because the interval is about other slices, not about other trainings. A claim is shown if all of its
conditions are shown, contradicted if one is contradicted, and undecided otherwise. No correction for several tests is
needed, because each condition must be shown on its own.

All claims are functions of three arguments:

- sums: mIoU and iterations of one data set, from `summary.sums_by_slice`;
- seconds: time per tile of one data set by seed, from `summary.seconds_per_tile`, averaged over folds;
- bars: numbers for claims that the paper states in words, from the section `claims` of the configuration.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from math import isnan
from typing import Literal

import pandas as pd

from pipeline_lib.evaluation.published import PAPER_ROWS, PK, SAM, SAM_P, P, Row
from pipeline_lib.evaluation.statistics import DECIMALS, Estimate, estimate, sums_of, weighted_sum

TRAINED = (0, 10, 20)  # per cent; the levels that the claims name, whatever levels a configuration has
UNSEEN = (30, 40)

Word = Literal["shown", "contradicted", "undecided", "not run"]
Bars = Mapping[str, float]


class NotRunError(LookupError):
    """A claim needs a figure that was not measured; the message names it."""


def _combined(sums: pd.DataFrame, weights: Mapping[Row, float], level: int) -> Estimate:
    """Return a weighted sum of the mIoU of rows at a level.

    Raises:
        NotRunError: a row was not run at this level.
    """
    for row in weights:
        if ("miou", *row, level) not in sums.index:
            raise NotRunError(f"{PAPER_ROWS[row]} at {level} % was not run")
    return estimate(weighted_sum(sums, {("miou", *row, level): weight for row, weight in weights.items()}))


def _gains(sums: pd.DataFrame, row: Row, over: Row, levels: Iterable[int]) -> list[Estimate]:
    return [_combined(sums, {row: 1, over: -1}, level) for level in levels]


def _above(difference: Estimate, bar: float) -> Word:
    if difference.low > bar and difference.least > bar:
        return "shown"
    return "contradicted" if difference.high <= bar and difference.most <= bar else "undecided"


def _at_least(difference: Estimate, bar: float) -> Word:
    if difference.low >= bar and difference.least >= bar:
        return "shown"
    return "contradicted" if difference.high < bar and difference.most < bar else "undecided"


def _all(words: Iterable[Word]) -> Word:
    distinct = set(words)
    if "contradicted" in distinct:
        return "contradicted"
    return "shown" if distinct == {"shown"} else "undecided"


def signed(figure: float) -> str:
    """Format a difference in mIoU: +.0123."""
    digits = f"{figure:+.4f}"
    return digits[0] + digits[1:].removeprefix("0")


def with_spread(figure: float, sd: float) -> str:
    """Format a difference with its standard deviation over seeds, if there are several: +.0123 ± .0021."""
    return signed(figure) + ("" if isnan(sd) else f" ± {signed(sd)[1:]}")


def with_interval(difference: Estimate) -> str:
    """Format a difference with its standard deviation and interval, if it has them: +.0123 ± .0021 [+.0010, +.0236]."""
    value, low, high, sd, *_ = difference
    return with_spread(value, sd) + (f" [{signed(low)}, {signed(high)}]" if low < high else "")


def _listed(differences: Iterable[Estimate]) -> str:
    return ", ".join(map(with_interval, differences))


def _proposed_beats_sam(sums: pd.DataFrame, seconds: pd.DataFrame, bars: Bars) -> tuple[Word, str]:
    gains = {over: _gains(sums, P, over, UNSEEN) for over in (SAM, SAM_P)}
    because = "; ".join(f"over {PAPER_ROWS[over]} {_listed(by_level)}" for over, by_level in gains.items())
    return _all(_above(gain, 0) for by_level in gains.values() for gain in by_level), because


def _iterating_gains_far_more(sums: pd.DataFrame, seconds: pd.DataFrame, bars: Bars) -> tuple[Word, str]:
    ratio = bars["min_gain_ratio"]
    by_iterating, by_token = _gains(sums, PK, P, UNSEEN), _gains(sums, P, SAM, UNSEEN)
    excess = {PK: 1, P: -1 - ratio, SAM: ratio}  # K's gain minus `ratio` times P's gain
    excesses = [_combined(sums, excess, level) for level in UNSEEN]
    because = f"K {_listed(by_iterating)}; P over SAM {_listed(by_token)}; K less {ratio:g} × that {_listed(excesses)}"
    return _all(_above(figure, 0) for figure in (*by_iterating, *excesses)), because


def _iterating_costs_little(sums: pd.DataFrame, seconds: pd.DataFrame, bars: Bars) -> tuple[Word, str]:
    gains = _gains(sums, PK, P, TRAINED)
    return _all(_at_least(gain, -bars["max_loss"]) for gain in gains), f"K {_listed(gains)}"


def _iterations_grow(sums: pd.DataFrame, seconds: pd.DataFrame, bars: Bars) -> tuple[Word, str]:
    """Decide claim C4.

    The interval of the difference between lowest and highest level decides whether iterations rise. A step between
    neighbouring levels passes if the mean does not fall: no interval could show this for a step from 1.00 to 1.01.
    """
    of_level = {key[3]: key[:4] for key in sums.index if key[:3] == ("iterations", *PK)}
    if len(of_level) < 2:
        raise NotRunError(f"{PAPER_ROWS[PK]} was not run at two levels")

    def rise(low: int, high: int) -> Estimate:
        return estimate(weighted_sum(sums, {of_level[high]: 1, of_level[low]: -1}))

    levels = list(of_level)
    ends, steps = rise(levels[0], levels[-1]), [rise(*step) for step in pairwise(levels)]
    level_steps: list[Word] = ["shown" if step.value >= 0 else _at_least(step, 0) for step in steps]
    counts = ", ".join(f"{estimate(sums_of(sums, *key)).value:.2f}" for key in of_level.values())
    spread = f" [{ends.low:+.2f}, {ends.high:+.2f}]" if ends.low < ends.high else ""
    because = f"{counts} at {', '.join(map(str, levels))} %; the ends differ by {ends.value:+.2f}{spread}"
    return _all([_above(ends, 0), *level_steps]), because


def _iterating_takes_little_time(sums: pd.DataFrame, seconds: pd.DataFrame, bars: Bars) -> tuple[Word, str]:
    """Decide claim C5. Times are not a sample of tiles but one run for each seed, so all seeds must agree."""
    if seconds.empty:
        raise NotRunError(f"{PAPER_ROWS[PK]} at {UNSEEN[-1]} % was not timed")
    without = seconds["encode"] + seconds["first"]
    ratios = (1 + seconds["repeated"] / without).round(DECIMALS)
    uncached = ratios + seconds["iterations"] * seconds["encode"] / without
    mean = seconds[["encode", "first", "repeated", "iterations"]].mean()
    spread = f" ({ratios.min():.2f} to {ratios.max():.2f} over seeds)" if len(ratios) > 1 else ""
    because = (
        f"× {ratios.mean():.2f}{spread}: encoder {mean['encode']:.3f} s, first masks {mean['first']:.3f} s, repeated "
        f"ones {mean['repeated']:.3f} s a tile; with the encoder run again at each of a tile's "
        f"{mean['iterations']:.1f} iterations it would be × {uncached.mean():.2f}"
    )
    if ratios.max() <= bars["max_time_ratio"]:
        return "shown", because
    return "contradicted" if ratios.min() > bars["max_time_ratio"] else "undecided", because


CLAIMS: dict[str, Callable[[pd.DataFrame, pd.DataFrame, Bars], tuple[Word, str]]] = {  # names in braces are of bars
    "C1 proposed P beats SAM and SAM + P at 30 and 40 %": _proposed_beats_sam,
    "C2 K improves proposed P at 30 and 40 %, by more than {min_gain_ratio:g} × what proposed P gains over SAM": (
        _iterating_gains_far_more
    ),
    "C3 K costs proposed P at most {max_loss:g} mIoU at 0, 10 and 20 %": _iterating_costs_little,
    "C4 the number of iterations never falls as boxes get worse, and is higher for the worst than for the best": (
        _iterations_grow
    ),
    "C5 at 40 %, a tile takes at most {max_time_ratio:g} × as long with K as without": _iterating_takes_little_time,
}


def decide(claim: str, sums: pd.DataFrame, seconds: pd.DataFrame, bars: Bars) -> tuple[Word, str]:
    """Return the verdict on one of `CLAIMS`, and the figures that decide it or the row that was not run."""
    try:
        return CLAIMS[claim](sums, seconds, bars)
    except NotRunError as missing:
        return "not run", str(missing)
