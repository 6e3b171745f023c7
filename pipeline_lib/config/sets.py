"""Find the files that a configuration names: data sets of a user, and sets of images to segment."""

from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.config.overlays import overlaid
from pipeline_lib.config.rows import refine_of
from pipeline_lib.data.model_header import ModelHeader, model_path
from pipeline_lib.data.paths import files_of
from pipeline_lib.settings.backbone import BackboneChoice, BackboneName
from pipeline_lib.settings.config import Config
from pipeline_lib.settings.datasets import Dataset, PathSource
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.messages import parsed
from pipeline_lib.settings.segment import SegmentConfig, TrainedModel


@dataclass(frozen=True)
class ImageSet:
    """A set of `predict` with all its settings."""

    images: str  # path
    boxes: tuple[str, ...]  # paths
    model: TrainedModel | str | None  # a training, the path of a model, or None for the backbone alone
    backbone: BackboneName
    segment: SegmentConfig
    refine: RefineConfig


def within_data(config: Config) -> dict[str, Dataset]:
    """Return the data sets. The folder of a `path` source becomes a path in the folder `data`."""
    data = Path(config.data).expanduser()
    return {name: _within(dataset, data) for name, dataset in config.datasets.items()}


def _within(dataset: Dataset, data: Path) -> Dataset:
    if not isinstance(dataset.source, PathSource):
        return dataset
    folder = str(data / Path(dataset.source.folder).expanduser())
    return dataset.model_copy(update={"source": dataset.source.model_copy(update={"folder": folder})})


def users_files(dataset: Dataset) -> list[str]:
    """Return the files of a data set. There are none if they are generated or downloaded."""
    if not isinstance(dataset.source, PathSource):
        return []
    folder = Path(dataset.source.folder).expanduser()
    stacks = {folder / path for volume in dataset.volumes for path in (volume.images, volume.labels)}
    return [str(file) for stack in sorted(stacks) for file in files_of(stack)]


def image_sets(config: Config) -> dict[str, ImageSet]:
    """Return the sets of `predict`, each with its sections `segment` and `refine`. Paths are paths in `data`."""
    data = Path(config.data).expanduser()
    sets = {}
    for name, each in config.predict.items():
        boxes = [each.boxes] if isinstance(each.boxes, str) else each.boxes
        segment = overlaid(SegmentConfig, config.segment, each.segment)
        refine = refine_of(config, each.model.model) if isinstance(each.model, TrainedModel) else config.refine
        sets[name] = ImageSet(
            images=str(data / Path(each.images).expanduser()),
            boxes=tuple(str(data / Path(path).expanduser()) for path in boxes),
            model=str(model_path(each.model)) if isinstance(each.model, str) else each.model,
            backbone=_backbone_name(config, each.model),
            segment=segment,
            refine=overlaid(RefineConfig, refine, segment.refine),
        )
    return sets


def _backbone_name(config: Config, model: TrainedModel | str | None) -> BackboneName:
    """Return the backbone of a set's model: that of its file, or of the experiment."""
    if isinstance(model, str):
        return parsed(BackboneChoice, {"name": ModelHeader.read(model_path(model)).backbone, "checkpoint": None}).name
    return config.backbone.name


def backbone_of(config: Config, name: BackboneName) -> BackboneChoice:
    """Return the choice of a backbone. A checkpoint of the user is only for the backbone of the experiment."""
    return config.backbone if name == config.backbone.name else BackboneChoice(name=name, checkpoint=None)


def files_of_set(images: ImageSet) -> list[str]:
    """Return the files of images and of boxes of a set."""
    return [str(file) for path in [images.images, *images.boxes] for file in files_of(path)]
