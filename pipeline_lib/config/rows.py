"""What the configuration says of each row of the tables: its sections, its training, its files."""

from typing import Any

import yaml

from pipeline_lib.config.folds import parts_of_datasets, with_folds
from pipeline_lib.config.overlays import overlaid
from pipeline_lib.settings.audit import ExpectedRow
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.config import BorrowedModel, Config, Model
from pipeline_lib.settings.experiment import TableDataset, TableModel, TablesConfig, TestedObjects
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.model import PROMPT_PARTS, Adapter, ModelConfig, Token
from pipeline_lib.settings.training import TrainConfig, TrainingConfig


def trained_by(config: Config, name: str) -> str:
    """Return the name of the model whose weights a model has: its own, or that of another one."""
    row = config.models[name]
    return row.weights_of if isinstance(row, BorrowedModel) else name


def trained_row(config: Config, name: str) -> Model:
    """Return the row of the model whose weights a model has."""
    row = config.models[trained_by(config, name)]
    assert isinstance(row, Model)  # `contradictions` lets nobody borrow borrowed weights
    return row


def is_prompt_tuned(config: Config, name: str) -> bool:
    """Return whether a part that makes prompts was trained for a model: the column P of the tables."""
    return any(part in PROMPT_PARTS for part in trained_row(config, name).trains)


def deviation_of(config: Config, name: str) -> Deviation:
    """Return the section `deviation` as it holds for a model."""
    return overlaid(Deviation, config.deviation, config.models[name].deviation)


def refine_of(config: Config, name: str) -> RefineConfig:
    """Return the section `refine` as it holds for a model."""
    return overlaid(RefineConfig, config.refine, config.models[name].refine)


def training_of(config: Config, name: str) -> TrainingConfig:
    """Return all that decides the training of a model but the data set and the seed.

    It holds the one mix that is used: a change of another mix does not train the model again.
    """
    row = trained_row(config, name)
    trained = trained_by(config, name)
    train = overlaid(TrainConfig, config.train, row.train)
    token = overlaid(Token, config.token, row.token) if "deviation_token" in row.trains else None
    adapter = overlaid(Adapter, config.adapter, row.adapter) if "image_adapter" in row.trains else None
    return TrainingConfig(
        model=ModelConfig(trains=row.trains, token=token, adapter=adapter),
        mix=config.train.mixes[row.mix],
        deviation=deviation_of(config, trained),
        train=train,
        # only unrolled iterations have a next box
        largest_component=bool(train.unrolled_iterations) and refine_of(config, trained).largest_component,
    )


def audited_rows(config: Config) -> dict[str, ExpectedRow]:
    """Return what the audit must know of each row of the tables, by model."""
    return {
        name: ExpectedRow(
            trained=trained_by(config, name),
            training=training_of(config, name),
            deviation=deviation_of(config, name),
        )
        for name in config.experiment.models
    }


def tested_objects(config: Config) -> TestedObjects:
    """Return which objects of each data set the tables are about."""
    return TestedObjects(split=config.experiment.split, objects=config.experiment.objects)


def tables_config(config: Config) -> TablesConfig:
    """Return what the tables show, in their order. The configuration is the one before `with_folds`."""
    run, datasets = config.experiment, with_folds(config).datasets
    return TablesConfig(
        datasets={
            name: TableDataset(
                title=datasets[name].title,
                # a data set in folds is the paper's, its folds are not
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


def cell_axes(config: Config) -> dict[str, tuple[Any, ...]]:
    """Return the values of each wildcard of a cell: data set, model, seed, level."""
    run = config.experiment
    return {"dataset": run.datasets, "model": run.models, "seed": run.seeds, "level": run.levels}


def training_axes(config: Config) -> dict[str, tuple[Any, ...]]:
    """Return the values of each wildcard of a training: data set, trained model, seed."""
    run = config.experiment
    trained = tuple(dict.fromkeys(trained_by(config, model) for model in run.models))
    return {"dataset": run.datasets, "model": trained, "seed": run.seeds}


def shown_axes(config: Config) -> dict[str, tuple[Any, ...]]:
    """Return the wildcards of the cells whose objects the report shows: `proposed`, or else the last model."""
    run = config.experiment
    model = "proposed" if "proposed" in run.models else run.models[-1]
    return {"dataset": run.datasets, "model": (model,), "seed": run.seeds[:1], "level": (max(run.levels),)}


def printed(config: Config) -> str:
    """Return the configuration as YAML that the workflow takes, with the keys that were set."""
    plain = config.model_dump(mode="json", exclude_unset=True)
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)
