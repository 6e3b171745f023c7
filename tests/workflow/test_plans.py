"""What the workflow plans before anything has run, and what it refuses."""

from math import prod
from pathlib import Path

import pytest
import yaml
from helpers.running import ROOT, SMALL, planned_jobs, snakemake

from pipeline_lib.config.defaults import default_config
from pipeline_lib.config.overlays import merged
from pipeline_lib.config.read import read_config
from pipeline_lib.config.rows import cell_axes, trainings

ALL_JOBS = {
    "raw": 2,
    "weights": 1,
    "convert": 2,
    "boxes": 2,
    "embed": 2,
    "train": 6,
    "refine": 12,
    "score": 12,
    "audit": 1,
    "tables": 1,
    "analysis": 1,
    "report": 1,
}


def files_of(shown: str, slot: str) -> set[str]:
    """The files that a dry run shows for a slot of its jobs."""
    lines = [line.strip().removeprefix(f"{slot}: ") for line in shown.splitlines() if line.startswith(f"    {slot}: ")]
    return {file for line in lines for file in line.split(", ")}


def test_a_run_from_scratch_has_every_job_and_every_result_as_its_target(tmp_path: Path) -> None:
    shown = snakemake(tmp_path, SMALL, "-n")
    assert planned_jobs(shown) == ALL_JOBS
    targets = files_of(shown.stdout.partition("rule all:")[2], "input")
    assert "results/report.html" in targets
    # Snakemake notices that a result is lost only if it is a target.
    assert targets == files_of(shown.stdout, "output")


def test_the_embedded_default_fans_out_per_data_set_model_and_level(tmp_path: Path) -> None:
    jobs = planned_jobs(snakemake(tmp_path, {}, "-n"))
    assert {rule: jobs[rule] for rule in ("train", "refine", "score")} == {"train": 9, "refine": 45, "score": 45}


def test_a_training_on_measured_boxes_depends_on_their_file(tmp_path: Path) -> None:
    file = tmp_path / "deviations.csv"
    file.write_text("left,top,right,bottom\n0,0,0,0\n")
    changes = {"train": {"mixes": {"measured": {"deviations": str(file)}}}, "models": {"sam": {"mix": "measured"}}}
    shown = snakemake(tmp_path, merged(SMALL, changes), "-n")
    assert str(file) in files_of(shown.stdout, "input")


ABLATIONS = {
    "tau": (1, 5),
    "iterations": (1, 6),
    "token": (5, 5),
    "mix": (3, 3),
    "deviation": (5, 5),
    "sam_boxes": (5, 5),
    "loss": (2, 2),
}


def ablation(name: str) -> dict:
    """An overlay of an ablation."""
    return yaml.safe_load((ROOT / f"experiments/ablations/{name}.yaml").read_text())


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_is_rows_of_one_table(name: str) -> None:
    config = read_config(merged(default_config(), ablation(name)))
    trained, rows = ABLATIONS[name]
    assert len(trainings(config)) == trained
    assert prod(map(len, cell_axes(config).values())) == 5 * rows


def test_rows_that_share_weights_are_planned_with_one_training(tmp_path: Path) -> None:
    jobs = planned_jobs(snakemake(tmp_path, ablation("tau"), "-n"))
    expected = {"embed": 1, "train": 1, "refine": 25, "score": 25, "tables": 1}
    assert {rule: jobs[rule] for rule in expected} == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"refine": {"taus": 0.1}}, "refine.taus is an unknown key; did you mean refine.tau?"),
        ({"results": "{x}"}, "results is '{x}', expected the path of a folder"),
    ],
)
def test_a_misspelt_or_impossible_value_stops_the_run(tmp_path: Path, change: dict, message: str) -> None:
    run = snakemake(tmp_path, merged(SMALL, change), "-n")
    assert run.returncode != 0
    assert message in run.stdout + run.stderr
    assert not (tmp_path / "results").exists()


def test_a_missing_file_of_the_user_is_named_before_any_job(tmp_path: Path) -> None:
    dataset = default_config()["datasets"]["cells"] | {"source": {"kind": "path", "folder": "nowhere"}}
    overlay = merged(SMALL, {"experiment": {"datasets": ["mine"]}, "datasets": {"mine": dataset}})
    run = snakemake(tmp_path, overlay, "-n")
    assert run.returncode != 0
    assert "nowhere/images" in run.stdout + run.stderr
