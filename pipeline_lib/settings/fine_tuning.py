"""Settings of `loosebox train`, which fine-tunes a model on a few labelled images."""

import math
from typing import Annotated

from pydantic import Field

from pipeline_lib.settings.base import Count, Extent, Levels, List, Positive, Settings, Whole
from pipeline_lib.settings.boxes import AnyMix, Mix
from pipeline_lib.settings.model import Part


class FineTuneConfig(Settings):
    """The settings that `loosebox train` changes. All others are the defaults of the configuration.

    The mix, the size of a step and the parts that are trained are those of the model *ready* in
    experiments/ready.yaml. The number of steps hardly depends on the number of images.
    """

    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of the images that are held out from training. They decide which epoch is the best, and are reported."""
    tile: Annotated[int, Field(ge=16)] = 256
    """Side of the tiles that the encoder sees, pixels."""
    minimum_area: Count = 64
    """Smallest area of an object, pixels. Smaller connected components are ignored."""
    objects: Count | None = None
    """Largest number of training objects, evenly spaced. Null uses all."""
    epochs: Whole | None = None
    """Number of epochs. Null uses as many as `steps` needs."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    """Seed of all random choices."""
    steps: Count = 160
    """Approximate number of steps of all epochs together."""
    most_epochs: Count = 60
    """Largest number of epochs for `steps`. Each epoch ends with a validation, which takes time."""
    tiles_per_epoch: Count = 160
    """Largest number of tiles in an epoch, so that training on many images is also validated every 40 steps."""
    trains: Annotated[tuple[Part, ...], List] = ("mask_decoder", "deviation_token", "image_adapter")
    """Parts that are trained if training starts from a backbone. If it starts from a model, the parts are those of the
    model."""
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
    """In training, masks end at a box with this multiple of the sides of the prompt."""
    validation_levels: Levels = (0, 20, 40)
    """Levels of deviation at which epochs are validated, per cent."""
    validation_objects: Count = 40
    """Largest number of held-out objects, evenly spaced, with which epochs are validated."""
    tested_levels: Levels = (0, 10, 20, 30, 40)
    """Levels of deviation at which held-out objects are segmented before and after training, per cent."""
    tested_objects: Count = 200
    """Largest number of held-out objects, evenly spaced, that are segmented before and after training."""

    def epochs_for(self, tiles: int) -> int:
        """Return the number of epochs of a training on a number of tiles."""
        if self.epochs is not None:
            return self.epochs
        steps_of_epoch = math.ceil(min(tiles, self.tiles_per_epoch) / self.tiles_per_step)
        return min(self.most_epochs, math.ceil(self.steps / steps_of_epoch))
