"""The paper's claims C1 to C5, each decided on the figures of one data set."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, astuple, dataclass
from typing import NamedTuple

TRAINED = (0, 10, 20)  # per cent; the claims name their levels, whatever a config trains or runs
UNSEEN = (30, 40)


class Row(NamedTuple):
    """A row of the tables: a model, without or with iterated inference (K)."""

    model: str
    iterated: bool


SAM, SAM_P, P, PK = Row("sam", False), Row("sam_p", False), Row("proposed", False), Row("proposed", True)
PAPER_ROWS = {SAM: "SAM", SAM_P: "SAM + P", P: "proposed P", PK: "proposed P + K"}


class NotRunError(LookupError):
    """A claim needs a figure that was not measured; the message says which."""


@dataclass(frozen=True)
class Seconds:
    """Mean time of one image with proposed P + K at the highest of the claims' levels.

    `passes` are the repeated predictions of an image's slowest object: so often would an uncached encoder run again.
    """

    encode: float
    first: float
    repeated: float
    passes: float


@dataclass(frozen=True)
class Figures:
    """What is known of one data set, measured or published.

    mIoU by row and level, mean iterations of proposed P + K by level (per cent), seconds where they were taken.
    """

    miou: Mapping[tuple[Row, int], float]
    iterations: Mapping[int, float]
    seconds: Seconds | None

    def gain(self, row: Row, over: Row, level: int) -> float:
        """Difference in mIoU, to the six decimals of tables.csv: a tie stays one."""
        for needed in (row, over):
            if (needed, level) not in self.miou:
                raise NotRunError(f"{PAPER_ROWS[needed]} at {level} % was not run")
        return round(self.miou[row, level] - self.miou[over, level], 6)


@dataclass(frozen=True)
class Bars:
    """Numbers for what the paper says in words: mIoU, a factor of gains, a factor of time."""

    slight_loss: float
    far_more: float
    little_time: float


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds, and the figures that decide."""

    shown: bool
    because: str


def _signed(gains: list[float]) -> str:
    return ", ".join(f"{gain:+.4f}".replace("0.", ".", 1) for gain in gains)


def _proposed_beats_sam(figures: Figures, bars: Bars) -> Verdict:
    gains = {over: [figures.gain(P, over, level) for level in UNSEEN] for over in (SAM, SAM_P)}
    because = "; ".join(f"over {PAPER_ROWS[over]} {_signed(by_level)}" for over, by_level in gains.items())
    return Verdict(all(gain > 0 for by_level in gains.values() for gain in by_level), because)


def _iterating_gains_far_more(figures: Figures, bars: Bars) -> Verdict:
    by_iterating = [figures.gain(PK, P, level) for level in UNSEEN]
    by_token = [figures.gain(P, SAM, level) for level in UNSEEN]
    shown = all(k > max(0, bars.far_more * p) for k, p in zip(by_iterating, by_token, strict=True))
    return Verdict(shown, f"K {_signed(by_iterating)}; P over SAM {_signed(by_token)}")


def _iterating_costs_little(figures: Figures, bars: Bars) -> Verdict:
    gains = [figures.gain(PK, P, level) for level in TRAINED]
    return Verdict(all(gain >= -bars.slight_loss for gain in gains), f"K {_signed(gains)}")


def _iterations_grow(figures: Figures, bars: Bars) -> Verdict:
    if len(figures.iterations) < 2:
        raise NotRunError(f"{PAPER_ROWS[PK]} was not run at two levels")
    levels, counts = zip(*sorted(figures.iterations.items()), strict=True)
    shown = list(counts) == sorted(counts) and counts[-1] > counts[0]
    return Verdict(shown, ", ".join(f"{count:.2f}" for count in counts) + f" at {', '.join(map(str, levels))} %")


def _iterating_takes_little_time(figures: Figures, bars: Bars) -> Verdict:
    if figures.seconds is None:
        raise NotRunError(f"{PAPER_ROWS[PK]} at {UNSEEN[-1]} % was not timed")
    encode, first, repeated, passes = astuple(figures.seconds)
    without = encode + first
    ratio, uncached = (without + repeated) / without, (without + repeated + passes * encode) / without
    because = (
        f"× {ratio:.2f}: encoder {encode:.3f} s, first masks {first:.3f} s, repeated ones {repeated:.3f} s an image; "
        f"with the encoder run again at each of an image's {passes:.1f} passes it would be × {uncached:.2f}"
    )
    return Verdict(ratio <= bars.little_time, because)


@dataclass(frozen=True)
class Claim:
    """`says` may name the bars in braces."""

    name: str
    says: str
    decide: Callable[[Figures, Bars], Verdict]


CLAIMS = (
    Claim("C1", "proposed P beats SAM and SAM + P at 30 and 40 %", _proposed_beats_sam),
    Claim(
        "C2",
        "K improves proposed P at 30 and 40 %, by more than {far_more:g} × what P gains over SAM",
        _iterating_gains_far_more,
    ),
    Claim("C3", "K costs proposed P at most {slight_loss:g} mIoU at 0, 10 and 20 %", _iterating_costs_little),
    Claim("C4", "iterations never fall as the deviation grows, and end higher than they begin", _iterations_grow),
    Claim("C5", "at 40 %, K makes an image take at most × {little_time:g} the time", _iterating_takes_little_time),
)


def decide(claim: Claim, figures: Figures, bars: Bars) -> tuple[str, str, str]:
    """What the claim says, "shown", "not shown" or "not decidable", and why."""
    says = f"{claim.name} {claim.says.format_map(asdict(bars))}"
    try:
        verdict = claim.decide(figures, bars)
    except NotRunError as missing:
        return says, "not decidable", str(missing)
    return says, "shown" if verdict.shown else "not shown", verdict.because
