"""Check that the sections of a configuration agree with each other."""

from collections.abc import Iterator
from pathlib import Path

from pipeline_lib.config.rows import deviation_of, trained_row
from pipeline_lib.data.model_header import ModelHeader, model_path
from pipeline_lib.data.paths import JOINT
from pipeline_lib.settings.boxes import Deviation, MeasuredMix, Mix
from pipeline_lib.settings.config import BorrowedModel, Config, GivenModel, Model
from pipeline_lib.settings.datasets import Dataset, splits_of
from pipeline_lib.settings.segment import TrainedModel

SPLITS = ("train", "validation", "test")


def contradictions(config: Config) -> Iterator[str]:
    """Yield a sentence for each contradiction between sections.

    Args:
        config: A configuration of `with_folds`.
    """
    if config.experiment.objects and config.miou == "foreground":
        yield (
            "experiment.objects leaves out objects of a tile, but miou is 'foreground', which needs all of them; set "
            "experiment.objects to null, or choose another miou"
        )
    unknown = [*_unknown_names(config), *_broken_models(config)]
    yield from unknown
    if unknown:  # the checks below look names up
        return
    yield from _broken_deviations(config)
    yield from _missing_splits(config)
    yield from _broken_crops(config)
    yield from _broken_sets(config)


def _unknown_names(config: Config) -> Iterator[str]:
    experiment = config.experiment
    for section, names, known in (
        ("datasets", experiment.datasets, sorted(config.datasets)),
        ("models", experiment.models, sorted(config.models)),
    ):
        for name in names:
            if name not in known:
                yield f"experiment.{section} names {name!r}, but {section} has only {known}"


def _broken_models(config: Config) -> Iterator[str]:
    mixes = sorted(config.train.mixes)
    trained = sorted(name for name, row in config.models.items() if isinstance(row, Model))
    from_files = [name for name, row in config.models.items() if isinstance(row, GivenModel)]
    for name, row in config.models.items():
        if isinstance(row, BorrowedModel) and row.weights_of not in [*trained, *from_files]:
            known = sorted([*trained, *from_files])
            yield f"models.{name}.weights_of is {row.weights_of!r}, expected one of {known}"
        for key in ("file", "starts_from"):
            file = getattr(row, key, None)
            if file and not model_path(file).exists():
                yield f"models.{name}.{key} is {file!r}, but there is no such file; check the path"
            elif file and (backbone := ModelHeader.read(model_path(file)).backbone) != config.backbone.name:
                yield f"models.{name}.{key} needs backbone.name {backbone}, found {config.backbone.name}; change one"
        if not isinstance(row, Model):
            continue
        for dataset in row.trained_on or ():
            if dataset not in config.datasets:
                yield f"models.{name}.trained_on names {dataset!r}, but datasets has only {sorted(config.datasets)}"
            elif "train" not in splits_with_tiles(config.datasets[dataset]):
                yield f"models.{name}.trained_on: datasets.{dataset} has no training slices; add them"
        tiles = {config.datasets[dataset].tile for dataset in row.trained_on or () if dataset in config.datasets}
        if len(tiles) > 1:
            yield f"models.{name}.trained_on: expected data sets with one `tile`, found {sorted(map(str, tiles))}"
        if row.trained_on and not any(
            "validation" in splits_with_tiles(config.datasets[dataset])
            for dataset in row.trained_on
            if dataset in config.datasets
        ):
            yield f"models.{name}.trained_on: expected validation slices in a data set, found none"
        if row.mix not in mixes:
            yield f"models.{name}.mix is {row.mix!r}, but train.mixes has only {mixes}"
        for key, part in (("token", "deviation_token"), ("adapter", "image_adapter")):
            if key in row.model_fields_set and part not in row.trains:
                yield f"models.{name}.{key} is set, but the model does not train {part}; remove {key}, or add {part}"


def _broken_deviations(config: Config) -> Iterator[str]:
    rows = [trained_row(config, name) for name in config.experiment.models]
    for name in dict.fromkeys(row.mix for row in rows if row):
        measured = config.train.mixes.get(name)
        if isinstance(measured, MeasuredMix) and not Path(measured.deviations).is_file():
            yield (
                f"train.mixes.{name}.deviations is {measured.deviations!r}, but there is no such file; write it with "
                "`loosebox deviation`"
            )
    if _is_broken(config.deviation):
        yield f"deviation.direction {config.deviation.direction!r} {MEANINGLESS}"
    for name, row in config.models.items():
        deviation = deviation_of(config, name)
        if _is_broken(deviation):
            yield f"models.{name}.deviation.direction {deviation.direction!r} {MEANINGLESS}"
        mix = config.train.mixes.get(row.mix) if isinstance(row, Model) else None
        if isinstance(mix, Mix) and deviation.direction != "both" and "translate" in (mix.kinds or ()):
            direction = deviation.direction
            yield f"models.{name}.mix draws the kind 'translate', but its direction is {direction!r}; expected 'both'"


MEANINGLESS = "has no meaning for the kind 'translate'; expected 'both'"


def _is_broken(deviation: Deviation) -> bool:
    return deviation.kind == "translate" and deviation.direction != "both"


def _missing_splits(config: Config) -> Iterator[str]:
    if JOINT in config.datasets:
        yield f"datasets.{JOINT} has a reserved name, which stands for several data sets together; choose another one"
    rows = [trained_row(config, name) for name in config.experiment.models if name in config.models]
    in_domain = any(row and not row.trained_on for row in rows)
    needed = SPLITS if in_domain else (config.experiment.split,)
    for name in config.experiment.datasets:
        if name in config.datasets:
            present = splits_with_tiles(config.datasets[name])
            if missing := [split for split in needed if split not in present]:
                yield f"datasets.{name}.volumes have no slices for the splits {missing}; add them to `split`"


def splits_with_tiles(dataset: Dataset) -> set[str]:
    """Return the splits for which a data set has tiles: those of its volumes, without those that have no crops."""
    splits = splits_of(dataset.volumes)
    if dataset.crops:
        counts = {"train": dataset.crops.train, "validation": dataset.crops.validation}
        splits -= {split for split, count in counts.items() if not count}
    return splits


def _broken_crops(config: Config) -> Iterator[str]:
    for name, dataset in config.datasets.items():
        if dataset.crops and not dataset.tile:
            yield f"datasets.{name}.crops needs `tile`, the side of a crop, but it is null; set it"
        if dataset.crops and dataset.magnification != 1:
            yield (
                f"datasets.{name} has both crops and a magnification; leave out the magnification, because "
                "`crops.object_side` decides it"
            )


def _broken_sets(config: Config) -> Iterator[str]:
    datasets = [name for name, dataset in config.datasets.items() if not dataset.folds]
    for name, each in config.predict.items():
        if isinstance(each.model, str) and not model_path(each.model).exists():
            yield f"predict.{name}.model is {each.model!r}, but there is no such file; check the path"
        if isinstance(each.model, TrainedModel):
            for key, value, known in (
                ("dataset", each.model.dataset, [*datasets, JOINT]),
                ("model", each.model.model, config.models),
                ("seed", each.model.seed, config.experiment.seeds),
            ):
                if value not in known:
                    yield f"predict.{name}.model.{key} is {value!r}, expected one of {sorted(known)}"
