"""A small experiment on generated cells: the arguments of each stage, for benchmarks that run the stages' functions."""

import sys
from pathlib import Path
from typing import Any

from pipeline_lib.config.defaults import default_config
from pipeline_lib.config.overlays import merged
from pipeline_lib.config.read import read_config
from pipeline_lib.config.rows import deviation_of, refine_of, tested_objects, training_of
from pipeline_lib.settings.config import Config

LEVEL = 30  # of deviation in the stage refine, per cent
MODEL = "proposed"
RAW = ("source", "volumes", "grey_range")  # keys of a data set that the stage uses
CONVERT = ("labels", "minimum_area", "pixel_size", "grey_range", "tile", "magnification")


def configuration(slices: int, side: int) -> Config:
    """Return config.yaml with other generated cells, one epoch, and all objects of the validation split."""
    third = slices // 3
    split = {
        name: [number * third, (number + 1) * third] for number, name in enumerate(("train", "validation", "test"))
    }
    cells = {
        "source": {"slices": slices, "size": [side, side]},
        "volumes": [{"images": "images", "labels": "labels", "split": split}],
        "tile": side,
    }
    train = {"epochs": 1, "validation_objects": sys.maxsize}
    return read_config(merged(default_config(), {"datasets": {"cells": cells}, "train": train}))


def stage_arguments(folder: Path, slices: int, side: int, backbone: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the arguments of each stage by its name, in the order of the stages.

    The settings are those of config.yaml, with one epoch and all objects of the validation split.

    Args:
        folder: where all files are written.
        slices: number of slices, a multiple of three; each split has a third of them.
        side: of a slice, pixels. A slice is one tile.
        backbone: its `name` and `checkpoint`.
    """
    config = configuration(slices, side)
    dataset = config.datasets["cells"].plain()
    manifest, iterations = str(folder / "manifest.json"), str(folder / "iterations.parquet")
    store, boxes, embeddings = (str(folder / name) for name in ("cells.zarr", "boxes.csv", "embeddings.zarr"))
    data = {"store": store, "boxes": boxes}
    embedded = data | {"embeddings": embeddings, "weights": str(folder / "weights.json")}
    trained = {
        "weights": embedded["weights"],
        "model": str(folder / "model.safetensors"),
        "dataset": "cells",
        "seed": 0,
    }
    tested = tested_objects(config).plain()
    return {
        "raw": {"manifest": manifest} | {key: dataset[key] for key in RAW},
        "convert": {"manifest": manifest, "store": store} | {key: dataset[key] for key in CONVERT},
        "boxes": data,
        "weights": {"manifest": embedded["weights"], "backbone": backbone, "folder": str(folder)},
        "embed": embedded | {"timing": str(folder / "embed.json"), **config.embed.plain()},
        "train": trained
        | {
            "stores": [store],
            "boxes": [boxes],
            "embeddings": [embeddings],
            "curve": str(folder / "curve.csv"),
            "training": training_of(config, MODEL).plain(),
        },
        "refine": embedded
        | trained
        | {
            "iterations": iterations,
            "timing": str(folder / "refine.json"),
            "level": LEVEL,
            "tested": tested,
            "deviation": deviation_of(config, MODEL).plain(),
            "refine": refine_of(config, MODEL).plain(),
        },
        "score": data | {"iterations": iterations, "scores": str(folder / "scores.csv"), "tested": tested},
    }
