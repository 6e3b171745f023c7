"""Derive the sections, the training and the files of each row of the tables from the configuration."""

from itertools import product
from typing import Any

import yaml

from pipeline_lib.config.folds import parts_of_datasets, with_folds
from pipeline_lib.config.overlays import overlaid
from pipeline_lib.data.model_header import ModelHeader, model_path
from pipeline_lib.data.paths import JOINT, Training
from pipeline_lib.settings.audit import ExpectedRow
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.config import BorrowedModel, Config, GivenModel, Model
from pipeline_lib.settings.experiment import TableDataset, TableModel, TablesConfig, TestedObjects
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.model import PROMPT_PARTS, Adapter, ModelConfig, Token
from pipeline_lib.settings.training import TrainConfig, TrainingConfig


def trained_by(config: Config, name: str) -> str:
    """Return the name of the model whose weights a model uses: its own name, or that of another one."""
    row = config.models[name]
    return row.weights_of if isinstance(row, BorrowedModel) else name


def trained_row(config: Config, name: str) -> Model | None:
    """Return the row of the model whose weights a model uses; None if they come from a file."""
    row = config.models[trained_by(config, name)]
    return row if isinstance(row, Model) else None


def trained_parts(config: Config, name: str) -> tuple[str, ...]:
    """Return the parts of the network that were trained for a model, also if its weights come from a file."""
    row = config.models[trained_by(config, name)]
    if isinstance(row, GivenModel):
        return tuple(ModelHeader.read(model_path(row.file)).model_config["trains"])
    return row.trains if isinstance(row, Model) else ()


def is_prompt_tuned(config: Config, name: str) -> bool:
    """Return whether a part that encodes prompts was trained for a model: the column P of the tables."""
    return any(part in PROMPT_PARTS for part in trained_parts(config, name))


def training_sets(config: Config, dataset: str, model: str) -> dict[str, float]:
    """Return the data sets of a training, each with its share of the tiles of an epoch.

    Args:
        config: The configuration.
        dataset: A data set, or `JOINT`.
        model: The trained model.
    """
    row = trained_row(config, model)
    return row.trained_on if row and row.trained_on else {dataset: 1.0}


def training_of_cell(config: Config, dataset: str, model: str, seed: int) -> Training | None:
    """Return the training of a model's weights for a data set; None if they come from a file."""
    row = trained_row(config, model)
    if row is None:
        return None
    return Training(JOINT if row.trained_on else dataset, trained_by(config, model), seed)


def weights_file(config: Config, dataset: str, model: str, seed: int) -> str:
    """Return the file of a model's weights for a data set. It begins with `<results>` if the experiment trains it."""
    training = training_of_cell(config, dataset, model, seed)
    if training:
        return "<results>/train/{}/{}/{}.safetensors".format(*training)
    row = config.models[trained_by(config, model)]
    assert isinstance(row, GivenModel)  # `contradictions` refuses to borrow borrowed weights
    return str(model_path(row.file))


def deviation_of(config: Config, name: str) -> Deviation:
    """Return the section `deviation` for a model."""
    return overlaid(Deviation, config.deviation, config.models[name].deviation)


def refine_of(config: Config, name: str) -> RefineConfig:
    """Return the section `refine` for a model."""
    return overlaid(RefineConfig, config.refine, config.models[name].refine)


def training_of(config: Config, name: str) -> TrainingConfig:
    """Return everything that decides the training of a model, except the data set and the seed.

    It has only the mix of this model, so that a change of another mix does not train the model again.
    """
    row, trained = trained_row(config, name), trained_by(config, name)
    assert row is not None  # callers have checked that the model is trained
    train = overlaid(TrainConfig, config.train, row.train)
    token = overlaid(Token, config.token, row.token) if "deviation_token" in row.trains else None
    adapter = overlaid(Adapter, config.adapter, row.adapter) if "image_adapter" in row.trains else None
    return TrainingConfig(
        model=ModelConfig(trains=row.trains, token=token, adapter=adapter),
        mix=config.train.mixes[row.mix],
        deviation=deviation_of(config, trained),
        train=train,
        trained_on=row.trained_on,
        starts_from=row.starts_from,
        # only unrolled iterations have a next box
        largest_component=bool(train.unrolled_iterations) and refine_of(config, trained).largest_component,
    )


def audited_rows(config: Config) -> dict[str, ExpectedRow]:
    """Return what the audit must know about each row of the tables, by model."""
    rows = {}
    for name in config.experiment.models:
        row = config.models[trained_by(config, name)]
        rows[name] = ExpectedRow(
            trained=trained_by(config, name),
            training=training_of(config, name) if isinstance(row, Model) else None,
            file=str(model_path(row.file)) if isinstance(row, GivenModel) else None,
            deviation=deviation_of(config, name),
        )
    return rows


def tested_objects(config: Config) -> TestedObjects:
    """Return which objects of each data set are tested."""
    return TestedObjects(split=config.experiment.split, objects=config.experiment.objects)


def tables_config(config: Config) -> TablesConfig:
    """Return what the tables show, in their order.

    Args:
        config: The configuration before `with_folds`.
    """
    run, datasets = config.experiment, with_folds(config).datasets
    return TablesConfig(
        datasets={
            name: TableDataset(
                title=datasets[name].title,
                # the folds of a data set are not in the paper
                published=datasets[name].published,
                parts=tuple(parts),
            )
            for name, parts in parts_of_datasets(config).items()
        },
        models={
            name: TableModel(title=config.models[name].title, prompt_tuned=is_prompt_tuned(config, name))
            for name in run.models
        },
        levels=run.levels,
        seeds=run.seeds,
        miou=config.miou,
        claims=config.claims,
        **tested_objects(config).model_dump(),
    )


def used_datasets(config: Config) -> list[str]:
    """Return the data sets for testing or training."""
    training_names = (training_sets(config, each.dataset, each.model) for each in trainings(config))
    return list(dict.fromkeys([*config.experiment.datasets, *(name for names in training_names for name in names)]))


def cell_axes(config: Config) -> dict[str, tuple[Any, ...]]:
    """Return the values of each wildcard of a cell: data set, model, seed, level."""
    run = config.experiment
    return {"dataset": run.datasets, "model": run.models, "seed": run.seeds, "level": run.levels}


def trainings(config: Config) -> list[Training]:
    """Return the trainings of the experiment."""
    run = config.experiment
    cells = product(run.datasets, run.models, run.seeds)
    return list(dict.fromkeys(training for cell in cells if (training := training_of_cell(config, *cell))))


def shown_axes(config: Config) -> dict[str, tuple[Any, ...]]:
    """Return the values of the wildcards of the cells whose objects the report shows.

    It shows the model `proposed`, or else the last model, with the first seed, at the highest level.
    """
    run = config.experiment
    model = "proposed" if "proposed" in run.models else run.models[-1]
    return {"dataset": run.datasets, "model": (model,), "seed": run.seeds[:1], "level": (max(run.levels),)}


def printed(config: Config) -> str:
    """Return the configuration as YAML for the workflow, with the keys that were set."""
    plain = config.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
