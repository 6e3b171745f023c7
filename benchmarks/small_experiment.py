"""A small experiment on generated cells: the arguments of each stage, for benchmarks that run the stages' functions."""

import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline_lib.config.defaults import default_config
from pipeline_lib.config.overlays import merged
from pipeline_lib.config.read import read_config
from pipeline_lib.config.rows import deviation_of, refine_of, tested_objects, training_of
from pipeline_lib.settings.backbone import BackboneChoice
from pipeline_lib.settings.messages import arguments_of

LEVEL = 30  # of deviation in the stage refine, per cent
MODEL = "proposed"


def stage_call(name: str, plain: Mapping[str, Any]) -> Callable[[], None]:
    """Return a call of a stage with arguments that are parsed from plain values, as the workflow's script does."""
    stage = getattr(import_module(f"pipeline_lib.stages.{name}"), name)
    return partial(stage, **arguments_of(stage, plain))


def stage_arguments(folder: Path, slices: int, side: int, backbone: BackboneChoice) -> dict[str, dict[str, Any]]:
    """Return the arguments of each stage by its name, as plain values, in the order of the stages.

    The settings are those of config.yaml, with one epoch and all objects of the validation split.

    Args:
        folder: folder for all files.
        slices: number of slices, a multiple of three. Each split has a third of them.
        side: side of a slice, pixels. A slice is one tile.
        backbone: the network and its weights.
    """
    third, defaults = slices // 3, default_config()
    volume = defaults["datasets"]["cells"]["volumes"][0] | {
        "split": {"train": [0, third], "validation": [third, 2 * third], "test": [2 * third, slices]}
    }
    cells = {"source": {"slices": slices, "size": [side, side]}, "volumes": [volume], "tile": side}
    changes = {"datasets": {"cells": cells}, "train": {"epochs": 1, "validation_objects": sys.maxsize}}
    config = read_config(merged(defaults, changes))
    dataset, tested = config.datasets["cells"].plain(), tested_objects(config).plain()
    manifest, iterations = str(folder / "manifest.json"), str(folder / "iterations.parquet")
    boxes = {"store": str(folder / "cells.zarr"), "boxes": str(folder / "boxes.csv")}
    embeddings = boxes | {"embeddings": str(folder / "embeddings.zarr"), "weights": str(folder / "weights.json")}
    model = {"model": str(folder / "model.safetensors"), "dataset": "cells", "seed": 0}
    raw_keys = ("source", "volumes", "grey_range")
    convert_keys = ("labels", "minimum_area", "pixel_size", "grey_range", "tile", "magnification", "crops")
    return {
        "raw": {"manifest": manifest} | {key: dataset[key] for key in raw_keys},
        "convert": {"manifest": manifest, "store": boxes["store"], "name": "cells"}
        | {key: dataset[key] for key in convert_keys},
        "boxes": boxes,
        "weights": {"manifest": embeddings["weights"], "backbone": backbone.plain(), "folder": str(folder)},
        "embed": embeddings | {"timing": str(folder / "embed.json"), **config.embed.plain()},
        "train": model
        | {
            "stores": [boxes["store"]],
            "boxes": [boxes["boxes"]],
            "embeddings": [embeddings["embeddings"]],
            "weights": embeddings["weights"],
            "curve": str(folder / "curve.csv"),
            "training": training_of(config, MODEL).plain(),
        },
        "refine": embeddings
        | model
        | {
            "iterations": iterations,
            "timing": str(folder / "refine.json"),
            "level": LEVEL,
            "tested": tested,
            "deviation": deviation_of(config, MODEL).plain(),
            "refine": refine_of(config, MODEL).plain(),
        },
        "score": boxes | {"iterations": iterations, "scores": str(folder / "scores.csv"), "tested": tested},
    }
