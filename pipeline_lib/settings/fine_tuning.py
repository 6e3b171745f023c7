"""How `loosebox train` fine-tunes a model on a few labelled images."""

import math
from typing import Annotated

from pydantic import Field

from pipeline_lib.settings.base import Count, Extent, Levels, List, Positive, Settings, Whole
from pipeline_lib.settings.boxes import AnyMix, Mix
from pipeline_lib.settings.model import Part


class FineTuneConfig(Settings):
    """What `loosebox train` sets itself; all other settings are the defaults of the configuration.

    The mix, the sizes of a step and the parts that are trained are those of the model *ready* in
    experiments/ready.yaml. A fine-tuning takes about as many steps whatever the number of images is.
    """

    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the images that no training sees. They pick the best epoch and are reported."""
    tile: Annotated[int, Field(ge=16)] = 256
    """Side of the tiles that the encoder sees, pixels."""
    minimum_area: Count = 64
    """Smallest object, pixels. Smaller connected components are no objects."""
    objects: Count | None = None
    """Largest number of training objects, evenly spaced. Null takes all."""
    epochs: Whole | None = None
    """Number of epochs. Null takes as many as `steps` needs."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of all that is random."""
    steps: Count = 160
    """Number of steps that the epochs come to together, about."""
    most_epochs: Count = 60
    """Largest number of epochs that `steps` leads to: each epoch ends with a validation, which takes time."""
    tiles_per_epoch: Count = 160
    """Largest number of tiles in an epoch, so that even many images are validated after every 40 steps."""
    trains: Annotated[tuple[Part, ...], List] = ("mask_decoder", "deviation_token", "image_adapter")
    """Parts that are trained when training starts from a backbone. A model that it starts from has its own."""
    mix: AnyMix = Mix(
        levels=(0, 10, 20, 30, 40),
        shares=(0.2, 0.1, 0.15, 0.2, 0.35),
        kinds=("scale", "edges", "translate"),
        limits={"translate": 10},
    )
    """How loose the training boxes are."""
    tiles_per_step: Count = 4
    """Number of tiles in a step."""
    objects_per_tile: Count = 8
    """Largest number of objects of a tile in a step."""
    learning_rate: Positive = 1e-4
    """Highest learning rate."""
    warmup_steps: Whole = 20
    """Steps in which the learning rate rises linearly."""
    mask_extent: Extent = 2.0
    """Size, in multiples of the prompted box, of the box beyond which masks are background in training."""
    validation_levels: Levels = (0, 20, 40)
    """Levels of deviation, per cent, of the validation that picks the best epoch."""
    validation_objects: Count = 40
    """Largest number of held-out objects, evenly spaced, that pick the best epoch."""
    tested_levels: Levels = (0, 10, 20, 30, 40)
    """Levels of deviation, per cent, at which the held-out objects are segmented before and after training."""
    tested_objects: Count = 200
    """Largest number of held-out objects, evenly spaced, that are segmented before and after training."""

    def epochs_for(self, tiles: int) -> int:
        """Return the number of epochs of a training on so many tiles."""
        if self.epochs is not None:
            return self.epochs
        steps_of_epoch = math.ceil(min(tiles, self.tiles_per_epoch) / self.tiles_per_step)
        return min(self.most_epochs, math.ceil(self.steps / steps_of_epoch))
