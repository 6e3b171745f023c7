"""A small experiment on generated cells: the arguments of each stage, for benchmarks that run the stages' functions."""

import sys
from pathlib import Path
from typing import Any

from pipeline_lib.defaults import default_config

LEVEL = 30  # of deviation in the stage refine, per cent
MODEL = "proposed"


def stage_arguments(folder: Path, slices: int, side: int, backbone: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the arguments of each stage by its name, in the order of the stages.

    The settings are those of config.yaml, with one epoch and all objects of the validation split.

    Args:
        folder: where all files are written.
        slices: number of slices, a multiple of three; each split has a third of them.
        side: of a slice, pixels. A slice is one tile.
        backbone: its `name` and `checkpoint`.
    """
    config = default_config()
    third = slices // 3
    dataset: dict[str, Any] = config["datasets"]["cells"] | {"tile": side}
    dataset["source"] |= {"slices": slices, "size": [side, side]}
    dataset["volumes"][0]["split"] = {
        name: [number * third, (number + 1) * third] for number, name in enumerate(("train", "validation", "test"))
    }
    manifest, iterations = str(folder / "manifest.json"), str(folder / "iterations.parquet")
    data = {"store": str(folder / "cells.zarr"), "boxes": str(folder / "boxes.csv")}
    embedded = data | {"embeddings": str(folder / "embeddings.zarr"), "weights": str(folder / "weights.json")}
    trained: dict[str, Any] = embedded | {"model": str(folder / "model.safetensors")}
    trained |= {"dataset": "cells", "seed": 0, "deviation": config["deviation"]}
    tested = {key: config["experiment"][key] for key in ("split", "objects")}
    settings, model = dict(config["train"]), config["models"][MODEL]
    mix, levels = settings.pop("mixes")[model["mix"]], settings.pop("validation_levels")
    return {
        "raw": {"manifest": manifest, "dataset": dataset},
        "convert": {"manifest": manifest, "store": data["store"], "dataset": dataset},
        "boxes": data,
        "weights": {"manifest": embedded["weights"], "backbone": backbone, "folder": str(folder)},
        "embed": embedded | {"timing": str(folder / "embed.json"), **config["embed"]},
        "train": trained
        | {
            "curve": str(folder / "curve.csv"),
            "model_config": {"trains": model["trains"], "token": config["token"], "mix": mix},
            "settings": settings | {"epochs": 1, "validation_objects": sys.maxsize},
            "levels": levels,
        },
        "refine": trained
        | {
            "iterations": iterations,
            "timing": str(folder / "refine.json"),
            "level": LEVEL,
            "tested": tested,
            "settings": config["refine"],
        },
        "score": data | {"iterations": iterations, "scores": str(folder / "scores.csv"), "tested": tested},
    }
