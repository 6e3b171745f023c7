"""Every stage of a tiny experiment as a call: what it reads, what it writes, its params."""

import os
import resource
import signal
import subprocess
import threading
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from helpers.stages import SERVER, run_stage
from pipeline_lib.config.defaults import default_config
from pipeline_lib.config.overlays import merged
from pipeline_lib.config.read import read_config
from pipeline_lib.config.rows import (
    audited_rows,
    deviation_of,
    printed,
    refine_of,
    tables_config,
    tested_objects,
    training_of,
)
from pipeline_lib.runtime.digests import check, note

VOLUME = {"images": "images", "labels": "labels", "split": {"train": [0, 1], "validation": [1, 2], "test": [2, 3]}}
CONFIG = read_config(
    merged(
        default_config(),
        {
            "embed": {"precision": "float32", "batch": 1},
            "refine": {"precision": "float32", "objects_per_batch": 2},
            "train": {
                "precision": "float32",
                "epochs": 2,
                "objects_per_tile": 4,
                "validation_levels": [0, 40],
                "validation_objects": 2,
            },
            "datasets": {"cells": {"source": {"slices": 3, "size": [256, 256]}, "volumes": [VOLUME]}},
            "experiment": {"datasets": ["cells"], "models": ["proposed"], "levels": [40], "objects": 6},
        },
    )
)
DATASET = CONFIG.datasets["cells"].plain()
TESTED = tested_objects(CONFIG).plain()
TABLES = tables_config(CONFIG).plain()
CELL = "cells/proposed/0/40"


@dataclass(frozen=True)
class Stage:
    """A call of a stage; paths are relative to the experiment's folder, a list of one stands for a list."""

    name: str
    inputs: dict[str, Any]
    outputs: dict[str, str]
    params: dict[str, Any]

    def call(self, folder: Path) -> None:
        """Run the stage in this process, as the workflow's script does."""
        check(_each(folder, self.inputs), folder)
        run_stage(getattr(import_module(f"pipeline_lib.stages.{self.name}"), self.name), **self.arguments(folder))
        note(_each(folder, self.outputs), folder)

    def arguments(self, folder: Path) -> dict[str, Any]:
        """What the stage's function is called with."""
        return {name: _within(folder, value) for name, value in (self.inputs | self.outputs).items()} | self.params

    def run(
        self, folder: Path, *, disk: int | None = None, seconds: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the stage in a process of its own, on a disk that has room for so many bytes of a file, or for a time."""
        return SERVER.run("helpers.chain:call_stage", self.name, str(folder), disk, seconds)

    def read_files(self, folder: Path) -> list[Path]:
        """The files behind its inputs, of a folder the last of its metadata and the last chunk."""
        found = []
        for value in self.inputs.values():
            place = folder / (value[0] if isinstance(value, list) else value)
            if place.is_dir():
                files = sorted(file for file in place.rglob("*") if file.is_file())
                marks = [file for file in files if file.name == "zarr.json"]
                found += [*marks, *[file for file in files if file not in marks][-2:]]
            else:
                found.append(place)
        return found

    def written(self, folder: Path) -> dict[str, bytes]:
        """The bytes of its outputs; seconds, which differ from run to run, are left out."""
        places = [folder / path for name, path in self.outputs.items() if name not in ("timing", "html")]
        files = [file for place in places for file in (place.rglob("*") if place.is_dir() else [place])]
        return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(files) if file.is_file()}


def _each(folder: Path, slots: dict[str, Any]) -> list[str]:
    return [str(folder / path) for value in slots.values() for path in ([value] if isinstance(value, str) else value)]


def _within(folder: Path, value: Any) -> Any:
    return [str(folder / path) for path in value] if isinstance(value, list) else str(folder / value)


def of_dataset(*keys: str) -> dict[str, Any]:
    """The params of a stage that are keys of the data set."""
    return {key: DATASET[key] for key in keys}


STORE, TABLE, EMBEDDINGS, BACKBONE = (
    "convert/cells.zarr",
    "boxes/cells.csv",
    "embed/cells.zarr",
    "weights/manifest.json",
)
WEIGHTS, CURVE = "train/cells/proposed/0.safetensors", "train/cells/proposed/0.csv"
HISTORY, SCORES = f"refine/{CELL}.parquet", f"score/{CELL}.csv"
ANALYSIS = ("groups", "changes", "worst")
STAGES = {
    stage.name: stage
    for stage in (
        Stage("raw", {}, {"manifest": "raw/cells/manifest.json"}, of_dataset("source", "volumes", "grey_range")),
        Stage(
            "weights",
            {},
            {"manifest": BACKBONE},
            {"backbone": {"name": "micro", "checkpoint": None}, "folder": "resources"},
        ),
        Stage(
            "convert",
            {"manifest": "raw/cells/manifest.json"},
            {"store": STORE},
            of_dataset("labels", "minimum_area", "pixel_size", "grey_range", "tile", "magnification", "crops"),
        ),
        Stage("boxes", {"store": STORE}, {"boxes": TABLE}, {}),
        Stage(
            "embed",
            {"store": STORE, "boxes": TABLE, "weights": BACKBONE},
            {"embeddings": EMBEDDINGS, "timing": "embed/cells.json"},
            CONFIG.embed.plain(),
        ),
        Stage(
            "train",
            {"stores": [STORE], "boxes": [TABLE], "embeddings": [EMBEDDINGS], "weights": BACKBONE},
            {"model": WEIGHTS, "curve": CURVE},
            {"dataset": "cells", "seed": 0, "training": training_of(CONFIG, "proposed").plain()},
        ),
        Stage(
            "refine",
            {"store": STORE, "boxes": TABLE, "embeddings": EMBEDDINGS, "weights": BACKBONE, "model": WEIGHTS},
            {"iterations": HISTORY, "timing": f"refine/{CELL}.json"},
            {
                "dataset": "cells",
                "level": 40,
                "seed": 0,
                "tested": TESTED,
                "deviation": deviation_of(CONFIG, "proposed").plain(),
                "refine": refine_of(CONFIG, "proposed").plain(),
            },
        ),
        Stage(
            "score",
            {"store": STORE, "boxes": TABLE, "iterations": HISTORY},
            {"scores": SCORES},
            {"tested": TESTED},
        ),
        Stage(
            "audit",
            {"stores": [STORE], "boxes": [TABLE], "models": [WEIGHTS], "iterations": [HISTORY], "scores": [SCORES]},
            {"findings": "audit.csv"},
            {
                "tested": TESTED,
                "rows": {name: row.plain() for name, row in audited_rows(CONFIG).items()},
            },
        ),
        Stage(
            "tables",
            {
                "audit": "audit.csv",
                "scores": [SCORES],
                "timings": [f"refine/{CELL}.json"],
                "embed_timings": ["embed/cells.json"],
            },
            {
                "markdown": "tables.md",
                "csv": "tables.csv",
                "differences": "differences.csv",
                "claims": "claims.csv",
            },
            {"experiment": TABLES},
        ),
        Stage(
            "analysis",
            {"scores": [SCORES], "iterations": [HISTORY], "boxes": [TABLE], "stores": [STORE]},
            {name: f"analysis/{name}.csv" for name in ANALYSIS},
            {"tested": TESTED},
        ),
        Stage(
            "report",
            {
                "audit": "audit.csv",
                "tables": "tables.csv",
                "differences": "differences.csv",
                "claims": "claims.csv",
                **{name: f"analysis/{name}.csv" for name in ANALYSIS},
                "curves": [CURVE],
                "iterations": [HISTORY],
                "scores": [SCORES],
                "stores": [STORE],
                "manifests": ["raw/cells/manifest.json"],
                "weights": BACKBONE,
            },
            {"html": "report.html", "figures": "figures"},
            {"experiment": TABLES, "config": printed(CONFIG)},
        ),
    )
}


def call_stage(name: str, folder: str, disk: int | None, seconds: float | None) -> None:
    """Call a stage; writes of more bytes into one file fail, and the process is killed after some seconds."""
    if disk is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (disk, disk))
    if seconds is not None:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    STAGES[name].call(Path(folder))
