"""The paper's claims C1 to C5, each decided on the figures of one data set by intervals of paired differences.

A claim is made of conditions: this difference is above that bar. A condition is shown where the whole 95 % interval and
each seed meet it, contradicted where none of the interval and no seed does, and undecided between: the interval is
about other slices, and does not know that another training may end elsewhere. A claim is shown if all of its conditions
are (no correction is needed, as each must pass on its own), contradicted if one is, and else undecided. Printed figures
have no interval and decide alone.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import isnan
from statistics import fmean
from typing import Literal, NamedTuple

from pipeline_lib.evaluation.statistics import DECIMALS, ClusterSums, Estimate, clustered, contrast

TRAINED = (0, 10, 20)  # per cent; the claims name their levels, whatever a config trains or runs
UNSEEN = (30, 40)


class Row(NamedTuple):
    """A row of the tables: a model, without or with iterated inference (K)."""

    model: str
    iterated: bool


SAM, SAM_P, P, PK = Row("sam", False), Row("sam_p", False), Row("proposed", False), Row("proposed", True)
PAPER_ROWS = {SAM: "SAM", SAM_P: "SAM + P", P: "proposed P", PK: "proposed P + K"}
PAPER_MODELS = {row.model for row in PAPER_ROWS}

Word = Literal["shown", "contradicted", "undecided", "not run"]


class NotRunError(LookupError):
    """A claim needs a figure that was not measured; the message says which."""


@dataclass(frozen=True)
class Seconds:
    """Mean time of one tile with proposed P + K at the highest of the claims' levels, of one seed.

    `iterations` are the repeated predictions of a tile's slowest object: so often would an uncached encoder run again.
    """

    encode: float
    first: float
    repeated: float
    iterations: float

    @property
    def ratio(self) -> float:
        """The time with K, in times without."""
        return (self.encode + self.first + self.repeated) / (self.encode + self.first)

    @property
    def uncached(self) -> float:
        """The same if the encoder ran at each iteration."""
        return self.ratio + self.iterations * self.encode / (self.encode + self.first)


@dataclass(frozen=True)
class Figures:
    """What is known of one data set, measured or published.

    mIoU by row and level, iterations of proposed P + K by level (per cent), seconds of each seed where they were taken.
    """

    miou: Mapping[tuple[Row, int], ClusterSums]
    iterations: Mapping[int, ClusterSums]
    seconds: Sequence[Seconds] = ()
    estimate: Callable[[ClusterSums], Estimate] = clustered

    def gain(self, row: Row, over: Row, level: int) -> Estimate:
        """The difference in mIoU at a level."""
        return self.combined({row: 1, over: -1}, level)

    def combined(self, weights: Mapping[Row, float], level: int) -> Estimate:
        """A weighted sum of rows' mIoU at a level.

        Raises:
            NotRunError: a row was not run there.
        """
        for row in weights:
            if (row, level) not in self.miou:
                raise NotRunError(f"{PAPER_ROWS[row]} at {level} % was not run")
        return self.estimate(contrast(self.miou, {(row, level): weight for row, weight in weights.items()}))


@dataclass(frozen=True)
class Thresholds:
    """Numbers for what the paper says in words: mIoU, a factor of gains, a factor of time."""

    max_loss: float
    min_gain_ratio: float
    max_time_ratio: float


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds, and the figures that decide."""

    word: Word
    because: str


def _above(estimate: Estimate, bar: float) -> Word:
    if estimate.low > bar and estimate.least > bar:
        return "shown"
    return "contradicted" if estimate.high <= bar and estimate.most <= bar else "undecided"


def _at_least(estimate: Estimate, bar: float) -> Word:
    if estimate.low >= bar and estimate.least >= bar:
        return "shown"
    return "contradicted" if estimate.high < bar and estimate.most < bar else "undecided"


def _all(words: Iterable[Word]) -> Word:
    found = set(words)
    if "contradicted" in found:
        return "contradicted"
    return "shown" if found == {"shown"} else "undecided"


def signed(figure: float) -> str:
    """A difference in mIoU as +.0123."""
    return f"{figure:+.4f}".replace("0.", ".", 1)


def with_interval(estimate: Estimate) -> str:
    """A difference, its spread and, where it is more than a point, its interval: +.0123 ± .0021 [+.0010, +.0236]."""
    low, high = estimate.low, estimate.high
    return with_spread(estimate) + (f" [{signed(low)}, {signed(high)}]" if low < high else "")


def with_spread(estimate: Estimate) -> str:
    """A difference and, of several seeds, its standard deviation over them: +.0123 ± .0021."""
    return signed(estimate.value) + ("" if isnan(estimate.sd) else f" ± {signed(estimate.sd)[1:]}")


def _listed(estimates: Iterable[Estimate]) -> str:
    return ", ".join(map(with_interval, estimates))


def _proposed_beats_sam(figures: Figures, bars: Thresholds) -> Verdict:
    gains = {over: [figures.gain(P, over, level) for level in UNSEEN] for over in (SAM, SAM_P)}
    because = "; ".join(f"over {PAPER_ROWS[over]} {_listed(by_level)}" for over, by_level in gains.items())
    return Verdict(_all(_above(gain, 0) for by_level in gains.values() for gain in by_level), because)


def _iterating_gains_far_more(figures: Figures, bars: Thresholds) -> Verdict:
    by_iterating = [figures.gain(PK, P, level) for level in UNSEEN]
    by_token = [figures.gain(P, SAM, level) for level in UNSEEN]
    excess = {PK: 1, P: -1 - bars.min_gain_ratio, SAM: bars.min_gain_ratio}  # K's gain less so many of P's
    excesses = [figures.combined(excess, level) for level in UNSEEN]
    word = _all(_above(figure, 0) for figure in (*by_iterating, *excesses))
    because = f"K {_listed(by_iterating)}; P over SAM {_listed(by_token)}; K less {bars.min_gain_ratio:g} × that "
    return Verdict(word, because + _listed(excesses))


def _iterating_costs_little(figures: Figures, bars: Thresholds) -> Verdict:
    gains = [figures.gain(PK, P, level) for level in TRAINED]
    return Verdict(_all(_at_least(gain, -bars.max_loss) for gain in gains), f"K {_listed(gains)}")


def _iterations_grow(figures: Figures, bars: Thresholds) -> Verdict:
    """The ends are decided by their difference's interval; a step between that does not fall on average is let pass.

    Of a step from 1.00 to 1.01, no interval could show that it does not fall.
    """
    levels = sorted(figures.iterations)
    if len(levels) < 2:
        raise NotRunError(f"{PAPER_ROWS[PK]} was not run at two levels")

    def rise(low: int, high: int) -> Estimate:
        return figures.estimate(contrast(figures.iterations, {high: 1, low: -1}))

    ends, steps = rise(levels[0], levels[-1]), [rise(*step) for step in pairwise(levels)]
    level_steps: list[Word] = ["shown" if step.value >= 0 else _at_least(step, 0) for step in steps]
    counts = ", ".join(f"{figures.estimate(figures.iterations[level]).value:.2f}" for level in levels)
    spread = f" [{ends.low:+.2f}, {ends.high:+.2f}]" if ends.low < ends.high else ""
    because = f"{counts} at {', '.join(map(str, levels))} %; the ends differ by {ends.value:+.2f}{spread}"
    return Verdict(_all([_above(ends, 0), *level_steps]), because)


def _iterating_takes_little_time(figures: Figures, bars: Thresholds) -> Verdict:
    """Of times there is no sample of tiles, but one run for each seed: all of them must agree."""
    if not figures.seconds:
        raise NotRunError(f"{PAPER_ROWS[PK]} at {UNSEEN[-1]} % was not timed")
    ratios = [round(seconds.ratio, DECIMALS) for seconds in figures.seconds]
    encode, first, repeated, iterations, uncached = (
        fmean(getattr(seconds, name) for seconds in figures.seconds)
        for name in ("encode", "first", "repeated", "iterations", "uncached")
    )
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f} over seeds)" if len(ratios) > 1 else ""
    because = (
        f"× {fmean(ratios):.2f}{spread}: encoder {encode:.3f} s, first masks {first:.3f} s, repeated ones "
        f"{repeated:.3f} s a tile; with the encoder run again at each of a tile's {iterations:.1f} iterations it would "
        f"be × {uncached:.2f}"
    )
    if max(ratios) <= bars.max_time_ratio:
        return Verdict("shown", because)
    return Verdict("contradicted" if min(ratios) > bars.max_time_ratio else "undecided", because)


@dataclass(frozen=True)
class Claim:
    """`says` may name the bars in braces."""

    name: str
    says: str
    decide: Callable[[Figures, Thresholds], Verdict]


CLAIMS = (
    Claim("C1", "proposed P beats SAM and SAM + P at 30 and 40 %", _proposed_beats_sam),
    Claim(
        "C2",
        "K improves proposed P at 30 and 40 %, by more than {min_gain_ratio:g} × what P gains over SAM",
        _iterating_gains_far_more,
    ),
    Claim("C3", "K costs proposed P at most {max_loss:g} mIoU at 0, 10 and 20 %", _iterating_costs_little),
    Claim("C4", "iterations never fall as the deviation grows, and end higher than they begin", _iterations_grow),
    Claim("C5", "at 40 %, K makes a tile take at most × {max_time_ratio:g} the time", _iterating_takes_little_time),
)


def decide(claim: Claim, figures: Figures, bars: Thresholds) -> tuple[str, Word, str]:
    """What the claim says, the verdict's word, and why."""
    says = f"{claim.name} {claim.says.format_map(asdict(bars))}"
    try:
        verdict = claim.decide(figures, bars)
    except NotRunError as missing:
        return says, "not run", str(missing)
    return says, verdict.word, verdict.because
