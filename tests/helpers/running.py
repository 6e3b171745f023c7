"""The workflow, run as its users do, in a folder of its own."""

import subprocess
from pathlib import Path

import yaml

from helpers.fork_server import ForkServer
from pipeline_lib.config.overlays import merged

ROOT = Path(__file__).parents[2]
SMALL = {
    "experiment": {"levels": [0, 40], "datasets": ["cells", "mitochondria"]},
    "datasets": {
        "cells": {
            "source": {"slices": 3, "size": [256, 256]},
            "volumes": [
                {
                    "images": "images",
                    "labels": "labels",
                    "split": {"train": [0, 1], "validation": [1, 2], "test": [2, 3]},
                }
            ],
        },
        "mitochondria": {
            "source": {"slices": 2, "size": [256, 256]},
            "volumes": [
                {"images": "training.tif", "labels": "training_groundtruth.tif", "split": {"train": [0, 1]}},
                {
                    "images": "testing.tif",
                    "labels": "testing_groundtruth.tif",
                    "split": {"validation": [0, 1], "test": [1, 2]},
                },
            ],
            "minimum_area": 16,
        },
    },
    "train": {"epochs": 1, "validation_objects": 4},
}


SERVER = ForkServer("snakemake.cli", "pipeline_lib.config.read", "pipeline_lib.config.rows", "pipeline_lib.config.sets")


def workflow_arguments(folder: Path, overlay: dict, *arguments: str) -> list[str]:
    """Snakemake's arguments that run the workflow in `folder` with an overlay over config.yaml."""
    file = folder / "overlay.yaml"
    file.write_text(yaml.safe_dump(overlay))
    return ["-s", f"{ROOT}/Snakefile", "-d", str(folder), *arguments, "--configfile", f"{ROOT}/config.yaml", str(file)]


def snakemake(folder: Path, overlay: dict, *arguments: str, config: str = "") -> subprocess.CompletedProcess[str]:
    """Run the workflow in `folder` with an overlay over config.yaml, and what `--config` lays over both."""
    last = ["--config", config] if config else []
    return SERVER.run("snakemake.cli:main", [*workflow_arguments(folder, overlay, *arguments), *last])


def planned_jobs(shown: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How many jobs of each rule a dry run announces."""
    assert shown.returncode == 0, shown.stderr
    lines = (shown.stdout + shown.stderr).splitlines()
    if "Job stats:" not in lines:
        return {}
    start = lines.index("Job stats:") + 3
    counts = dict(line.split() for line in lines[start : lines.index("", start)])
    return {rule: int(count) for rule, count in counts.items() if rule not in ("all", "total")}


def planned(folder: Path, change: dict | None = None, *arguments: str) -> dict[str, int]:
    """The jobs that a change of the small experiment would cause."""
    return planned_jobs(snakemake(folder, merged(SMALL, change or {}), "-n", *arguments))


def finished_run(folder: Path, overlay: dict, *targets: str) -> Path:
    """Run the workflow in `folder`, which comes back: the whole of it, or what makes some targets."""
    run = snakemake(folder, overlay, "--cores", "2", *targets)
    assert run.returncode == 0, run.stderr[-4000:]
    return folder
