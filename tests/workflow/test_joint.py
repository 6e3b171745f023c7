"""A model of several data sets and a model that is given as a file, through the whole workflow."""

from pathlib import Path

import pandas as pd
from helpers.running import SMALL, finished_run, planned_jobs, snakemake

from pipeline_lib.config.overlays import merged
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.evaluation.audit import UNSEEN_IMAGES


def test_joint_and_given_rows_are_tested_on_every_data_set_up_to_the_report(finished: Path, tmp_path: Path) -> None:
    file = finished / "results/train/mitochondria/sam/0.safetensors"
    models = {
        "both": {"title": "both", "like": "proposed", "trained_on": {"cells": 1.0, "mitochondria": 2.0}},
        "given": {"title": "given", "file": str(file)},
    }
    run = {"datasets": ["cells"], "models": ["both", "given"]}
    overlay = merged(SMALL, {"models": models, "experiment": run})
    finished_run(tmp_path, overlay)
    tables = pd.read_csv(tmp_path / "results/tables.csv")
    assert set(tables["model"]) == {"both", "given"}
    training = ModelHeader.read(tmp_path / "results/train/joint/both/0.safetensors").training
    assert len(training["images"]["train"]) == 2
    findings = pd.read_csv(tmp_path / "results/audit.csv")
    assert findings.loc[findings["check"] == UNSEEN_IMAGES, "found"].tolist() == [
        "1 images compared with those of 2 models"
    ]
    assert planned_jobs(snakemake(tmp_path, overlay, "-n")) == {}
