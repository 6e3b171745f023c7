"""Small trainings on the tiles of the fixture `stages`, under a `micro` with random weights."""

import logging

import pandas as pd
import torch

from helpers.stages import run_stage
from pipeline_lib.model.box_model import box_model
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.training import TrainingConfig
from pipeline_lib.stages.train import train
from pipeline_lib.training.sampling import Draw, TrainingSet
from pipeline_lib.training.trainer import Trainer, fit

MIX = {"levels": [0, 10, 20], "shares": [0.6, 0.2, 0.2]}
SETTINGS = {
    "loss": "sam",
    "epochs": 2,
    "tiles_per_epoch": None,
    "tiles_per_step": 1,
    "objects_per_tile": 4,
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "warmup_steps": 1,
    "grad_clip": 1.0,
    "unrolled_iterations": 0,
    "mask_extent": None,
    "precision": "float32",
    "validation_levels": [0, 40],
    "training_objects": None,
    "validation_objects": 4,
}
VARIANTS = {
    "sam": {"trains": ["mask_decoder"], "token": None},
    "sam_p": {"trains": ["mask_decoder", "corner_embeddings"], "token": None},
    "proposed": {"trains": ["mask_decoder", "deviation_token"], "token": {"width": 128, "count": 1}},
    "adapted": {"trains": ["mask_decoder", "image_adapter"], "token": None, "adapter": {"width": 8}},
}
DEVIATION = Deviation(kind="scale", direction="both")


def plain_training(name="proposed", mix=MIX, largest_component=False, **settings):
    """All that decides a training, as the workflow passes it on."""
    return {
        "model": VARIANTS[name],
        "mix": mix,
        "deviation": {"kind": "scale", "direction": "both"},
        "train": {**SETTINGS, **settings},
        "largest_component": largest_component,
    }


def training_of(*arguments, **settings):
    """The same as the stage gets it."""
    return TrainingConfig.model_validate(plain_training(*arguments, **settings))


PLAIN = training_of()


def arguments(stages, folder, seed=0, code="", **settings):
    """What the stage is called with; it writes into `folder`."""
    slots = {"model": str(folder / "model.safetensors"), "curve": str(folder / "curve")}
    sources = {
        "stores": [stages["store"]],
        "boxes": [stages["boxes"]],
        "embeddings": [stages["embeddings"]],
        "weights": stages["weights"],
    }
    training = plain_training(**settings)
    return {**sources, **slots, "dataset": "toy", "training": training, "seed": seed, "code": code}


def call(stages, folder, **changes):
    """Run the stage into `folder` and return its curve."""
    run_stage(train, **arguments(stages, folder, **changes))
    return pd.read_csv(folder / "curve")


def alone(source, objects):
    """The data sets of a training on one."""
    return [TrainingSet(source, objects, 1.0)]


def draw_of(source, tile, objects):
    """A tile's first turn in an epoch."""
    return Draw(source, tile, objects, tile)


def new_run(sam, name, folder):
    """A trainer of a variant, that keeps its checkpoint in `folder`."""
    torch.manual_seed(0)
    training = training_of(name)
    return Trainer(box_model(sam, training.model), training, 0, "float32", folder / "checkpoint", "key")


def fit_scripted(run, source, table, mious):
    """Fit with a validation that returns these values, one for each epoch."""
    fit(run, alone(source, table.query("split == 'train'")), iter(mious).__next__)


def train_with_log(plain):
    """Run the stage and print its log to the standard error."""
    logging.basicConfig(level=logging.INFO)
    run_stage(train, **plain)
