"""Derive the settings of a fine-tuning from `FineTuneConfig` and the defaults of the configuration."""

from pipeline_lib.config.defaults import default_config
from pipeline_lib.settings.backbone import EmbedConfig
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.fine_tuning import FineTuneConfig
from pipeline_lib.settings.model import Adapter, ModelConfig, Token
from pipeline_lib.settings.training import TrainConfig, TrainingConfig

OF_TRAINING = (  # keys of `train` that `FineTuneConfig` sets
    "tiles_per_step",
    "objects_per_tile",
    "tiles_per_epoch",
    "learning_rate",
    "warmup_steps",
    "mask_extent",
    "validation_levels",
    "validation_objects",
)


def shape_over_backbone(config: FineTuneConfig) -> ModelConfig:
    """Return the shape of a model whose training starts from a backbone."""
    defaults = default_config()
    return ModelConfig(
        trains=config.trains,
        token=Token(**defaults["token"]) if "deviation_token" in config.trains else None,
        adapter=Adapter(**defaults["adapter"]) if "image_adapter" in config.trains else None,
    )


def fine_tuning(config: FineTuneConfig, shape: ModelConfig, starts_from: str | None, tiles: int) -> TrainingConfig:
    """Return everything that decides a fine-tuning, except its images and its seed.

    Args:
        config: Settings of the fine-tuning.
        shape: Shape of the model.
        starts_from: Name of the model that training starts from. None starts from the decoder of the backbone.
        tiles: Number of tiles with training objects.
    """
    overlay = {key: getattr(config, key) for key in OF_TRAINING}
    overlay |= {"epochs": config.epochs_for(tiles), "training_objects": config.objects}
    defaults = {key: value for key, value in default_config()["train"].items() if key in TrainConfig.model_fields}
    return TrainingConfig(
        model=shape,
        mix=config.mix,
        deviation=default_deviation(),
        train=TrainConfig(**defaults | overlay),
        starts_from=starts_from,
        largest_component=False,  # only unrolled iterations have a next box
    )


def untrained(config: FineTuneConfig) -> TrainingConfig:
    """Return the settings of a training that keeps the backbone as it is."""
    shape = ModelConfig(trains=("mask_decoder",), token=None)
    return fine_tuning(config.model_copy(update={"epochs": 0}), shape, None, 1)


def default_deviation() -> Deviation:
    """Return the default section `deviation`."""
    return Deviation(**default_config()["deviation"])


def default_embedding() -> EmbedConfig:
    """Return the default section `embed`."""
    return EmbedConfig(**default_config()["embed"])
