"""A second run from scratch: a model of the first run, one of several data sets, and one that is given as a file."""

from pathlib import Path

import pandas as pd
import pytest
from helpers.running import SMALL, finished_run, planned_jobs, snakemake

from pipeline_lib.config.overlays import merged
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.evaluation.audit import UNSEEN_IMAGES

MODELS = ["proposed", "both", "given"]
LEVEL = 40


@pytest.fixture(scope="module")
def overlay(finished: Path) -> dict:
    file = finished / "results/train/mitochondria/sam/0.safetensors"
    models = {
        "both": {"title": "both", "like": "proposed", "trained_on": {"cells": 1.0, "mitochondria": 2.0}},
        "given": {"title": "given", "file": str(file)},
    }
    return merged(SMALL, {"models": models, "experiment": {"datasets": ["cells"], "models": MODELS, "levels": [LEVEL]}})


@pytest.fixture(scope="module")
def again(overlay: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("again"), overlay)


def test_joint_and_given_rows_are_tested_on_every_data_set_up_to_the_report(again: Path, overlay: dict) -> None:
    tables = pd.read_csv(again / "results/tables.csv")
    assert set(tables["model"]) == set(MODELS)
    training = ModelHeader.read(again / "results/train/joint/both/0.safetensors").training
    assert len(training["images"]["train"]) == 2
    findings = pd.read_csv(again / "results/audit.csv")
    assert findings.loc[findings["check"] == UNSEEN_IMAGES, "found"].tolist() == [
        "1 images compared with those of 3 models"
    ]
    assert planned_jobs(snakemake(again, overlay, "-n")) == {}


def test_two_runs_from_scratch_give_the_same_bytes(finished: Path, again: Path) -> None:
    """Of pictures too: tests/faults/test_matrix.py, which runs the stage report several times."""
    for name in (
        "boxes/cells.csv",
        "boxes/mitochondria.csv",
        "train/cells/proposed/0.csv",
        f"score/cells/proposed/0/{LEVEL}.csv",
    ):
        assert (again / "results" / name).read_bytes() == (finished / "results" / name).read_bytes(), name
