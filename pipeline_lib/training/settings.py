"""How a model is trained."""

from dataclasses import dataclass, fields
from typing import Any

from pipeline_lib.data.boxes import Deviation
from pipeline_lib.runtime.device import Precision


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; config.yaml explains each entry."""

    loss: str
    epochs: int
    images_per_step: int
    objects_per_image: int
    learning_rate: float
    weight_decay: float
    warm_up: int  # steps
    clip: float
    passes: int  # predictions of a step that have a loss
    precision: Precision
    levels: tuple[int, ...]  # of deviation among the training boxes, percent
    shares: tuple[float, ...]  # of these levels
    law: Deviation
    seed: int

    @classmethod
    def of(cls, settings: dict[str, Any], mix: dict[str, Any], law: Deviation, seed: int) -> "Recipe":
        """The recipe of the config's section `train` with one of its mixes."""
        own = {field.name: settings[field.name] for field in fields(cls) if field.name in settings}
        return cls(levels=tuple(mix["levels"]), shares=tuple(mix["shares"]), law=law, seed=seed, **own)
