"""How a model is trained."""

from dataclasses import dataclass, fields
from typing import Any

from pipeline_lib.data.boxes import Deviation, Kind
from pipeline_lib.runtime.device import Precision


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained; config.yaml explains each entry."""

    loss: str
    epochs: int
    tiles_per_epoch: int | None  # at most so many of the training split, drawn anew for each epoch; None: all
    tiles_per_step: int
    objects_per_tile: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    grad_clip: float
    unrolled_iterations: int  # of a step, after its first prediction, that have a loss as well
    mask_extent: float | None  # as in `Predictor`: beyond it masks are background, to the loss as well
    largest_component: bool  # what an unrolled iteration's box is drawn around; as in `IterationConfig`
    precision: Precision
    levels: tuple[int, ...]  # of deviation among the training boxes, percent
    shares: tuple[float, ...]  # of these levels
    kinds: tuple[Kind, ...]  # of deviation among the training boxes, drawn alike often
    deviation: Deviation
    seed: int

    @classmethod
    def of(cls, settings: dict[str, Any], mix: dict[str, Any], deviation: Deviation, seed: int) -> "TrainConfig":
        """The config's section `train` with one of its mixes."""
        own = {field.name: settings[field.name] for field in fields(cls) if field.name in settings}
        own.setdefault("largest_component", False)  # no unrolled iteration asks for it
        kinds = tuple(mix.get("kinds", [deviation.kind]))
        levels, shares = tuple(mix["levels"]), tuple(mix["shares"])
        return cls(levels=levels, shares=shares, kinds=kinds, deviation=deviation, seed=seed, **own)
