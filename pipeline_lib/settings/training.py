"""Settings of the training of a model."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.settings.base import Amount, Count, Extent, Levels, Positive, PrecisionChoice, Settings, Whole
from pipeline_lib.settings.boxes import AnyMix, Deviation
from pipeline_lib.settings.model import ModelConfig


class TrainConfig(Settings):
    """Loss, steps, optimiser and validation of a training."""

    loss: Literal["sam", "bce_dice", "sam_box"]
    """Loss of a mask. `sam` is 20 · focal + dice + the squared error of the predicted IoU (our reading of the paper).
    `bce_dice` is cross entropy + dice. `sam_box` is our own: `sam` with a loss on the box around the mask."""
    epochs: Whole
    """Number of epochs. 0 keeps the backbone as it is."""
    tiles_per_epoch: Count | None
    """Largest number of training tiles in an epoch. They are drawn anew for each epoch. With `trained_on`, an epoch has
    exactly this number, and repeats tiles of small data sets. Null uses all tiles once."""
    tiles_per_step: Count
    """Number of tiles in a step. With more than one, a step mixes the objects of several tiles."""
    objects_per_tile: Count
    """Largest number of objects of a tile in a step."""
    learning_rate: Positive
    """Highest learning rate of AdamW. It falls along a cosine."""
    weight_decay: Amount
    """Weight decay of AdamW."""
    warmup_steps: Whole
    """Steps in which the learning rate rises linearly."""
    grad_clip: Positive
    """Norm to which larger gradients are scaled down."""
    unrolled_iterations: Whole
    """Number of iterations after the first prediction that also have a loss. Our own models use 1: the box around the
    first mask is the second prompt."""
    mask_extent: Extent | None
    """In training, masks end at a box with this multiple of the sides of the prompt, as in `refine.mask_extent`. Our
    own models use 2.0. Null sets no limit."""
    precision: PrecisionChoice
    """Precision of the decoder's matrix products, as in `embed`."""
    validation_levels: Levels
    """Levels of deviation at which models are validated, per cent. The epoch with the best mean IoU over them is
    kept."""
    training_objects: Count | None
    """Largest number of training objects, evenly spaced. Null uses all."""
    validation_objects: Count
    """Largest number of validation objects, evenly spaced. They decide which epoch is the best."""


class TrainSection(TrainConfig):
    """How models are trained."""

    mixes: Annotated[dict[str, AnyMix], Field(min_length=1)]
    """Mixes of training boxes, by name."""


class TrainingConfig(Settings):
    """Everything that decides a training, except its data set and its seed."""

    model: ModelConfig
    """Shape of the model, and which of its parts are trained."""
    mix: AnyMix
    """How loose the training boxes are."""
    deviation: Deviation
    """What a deviation does to a training box."""
    train: TrainConfig
    """Loss, steps, optimiser and validation."""
    trained_on: dict[str, Positive] | None = None
    """Data sets that the model is trained on together, each with its share of an epoch's tiles. Null is for a model
    that is trained on one data set."""
    starts_from: str | None = None
    """File of the model whose weights the training starts from. Null starts from the backbone's own decoder."""
    largest_component: bool
    """Whether an unrolled iteration draws its box around the largest component of the mask only."""
