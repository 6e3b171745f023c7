"""Settings of loose boxes."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from pipeline_lib.settings.base import Different, Levels, List, Settings, Share

Kind = Literal["scale", "edges", "translate"]
Direction = Literal["both", "grow", "shrink"]


class Deviation(Settings):
    """What a deviation of s per cent does to a box."""

    kind: Kind
    """`scale` scales both sides about the centre by 1 + s or 1 − s (our reading of the paper). `edges` moves each edge
    independently, by s / 2 of the width or height. `translate` shifts the box by s of its width to the left or right,
    and by s of its height up or down."""
    direction: Direction
    """Whether boxes grow or shrink. With `both` (our reading of the paper), one of the two is drawn for each object.
    `translate` needs `both`."""


class Mix(Settings):
    """How loose the boxes in training are, by levels of deviation."""

    levels: Levels
    """Levels of deviation, per cent."""
    shares: Annotated[tuple[Share, ...], List, Field(min_length=1)]
    """Share of each level among the training boxes. The sum of the shares is 1."""
    kinds: Annotated[tuple[Kind, ...], List, Field(min_length=1), Different] | None = None
    """Kinds of deviation. One is drawn for each box. Null uses `deviation.kind`."""
    limits: dict[Kind, Annotated[int, Field(ge=0, le=99)]] = Field(default_factory=dict)
    """Largest level of a kind, per cent. A box of this kind with a higher level gets this level instead."""

    @model_validator(mode="after")
    def _check(self) -> "Mix":
        if len(self.levels) != len(self.shares):
            raise ValueError(f"expected a share for each level, found {len(self.shares)} for {len(self.levels)}")
        if abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"expected shares that sum to 1, found {sum(self.shares):g}")
        return self


class MeasuredMix(Settings):
    """How loose the boxes in training are, as measured boxes."""

    deviations: str
    """File `deviations.csv` of `loosebox deviation`. Each training box deviates like a random row of the file, with all
    four edges together."""


def _kind_of_mix(value: Any) -> str:
    measured = isinstance(value, MeasuredMix) or (isinstance(value, dict) and "deviations" in value)
    return "measured" if measured else "levels"


AnyMix = Annotated[
    Annotated[Mix, Tag("levels")] | Annotated[MeasuredMix, Tag("measured")],
    Discriminator(_kind_of_mix),
]
