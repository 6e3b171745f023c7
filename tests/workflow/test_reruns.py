"""What each change of the configuration, of files or of code would redo, after a small experiment has run."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio.v3 as iio
import pytest
import yaml
from helpers.running import ROOT, SMALL, planned, planned_jobs, snakemake

from pipeline_lib.config.overlays import merged

EVALUATION = {"audit": 1, "tables": 1, "analysis": 1, "report": 1}


@contextmanager
def without(file: Path) -> Iterator[None]:
    aside = file.with_suffix(".aside")
    file.rename(aside)
    try:
        yield
    finally:
        aside.rename(file)


def test_nothing_is_left_to_do_after_a_finished_run(finished: Path) -> None:
    assert planned(finished) == {}


def test_a_row_that_borrows_weights_is_refined_alone(finished: Path) -> None:
    change = {
        "experiment": {"models": ["sam", "sam_p", "proposed", "patient"]},
        "models": {"patient": {"title": "p", "weights_of": "proposed", "refine": {"tau": 0.01}}},
    }
    assert planned(finished, change) == {"refine": 4, "score": 4, **EVALUATION}


def test_a_model_that_is_no_row_is_not_run(finished: Path) -> None:
    assert planned(finished, {"experiment": {"models": ["sam", "proposed"]}}) == EVALUATION


def test_what_a_model_lays_over_a_section_redoes_that_model(finished: Path) -> None:
    assert planned(finished, {"models": {"sam": {"train": {"loss": "bce_dice"}}}}) == {
        "train": 2,
        "refine": 4,
        "score": 4,
        **EVALUATION,
    }


def test_another_order_of_a_splits_ranges_redoes_nothing(finished: Path) -> None:
    volumes = SMALL["datasets"]["cells"]["volumes"]
    turned = [volume | {"split": dict(reversed(volume["split"].items()))} for volume in volumes]
    assert list(turned[0]["split"]) != list(volumes[0]["split"])
    assert planned(finished, {"datasets": {"cells": {"volumes": turned}}}) == {}


def test_a_forced_level_runs_alone(finished: Path) -> None:
    assert planned(finished, {}, "results/score/cells/sam/0/40.csv", "--force") == {"score": 1}


def test_a_new_level_adds_only_its_own_jobs(finished: Path) -> None:
    assert planned(finished, {"experiment": {"levels": [0, 40, 50]}}) == {"refine": 6, "score": 6, **EVALUATION}


def test_another_tau_redoes_refine_and_after(finished: Path) -> None:
    assert planned(finished, {"refine": {"tau": 0.1}}) == {"refine": 12, "score": 12, **EVALUATION}


def test_another_learning_rate_keeps_the_embeddings(finished: Path) -> None:
    expected = {"train": 6, "refine": 12, "score": 12, **EVALUATION}
    assert planned(finished, {"train": {"learning_rate": 0.001}}) == expected


def test_a_changed_data_set_leaves_the_others_alone(finished: Path) -> None:
    change = {"datasets": {"cells": {"minimum_area": 80}}}
    expected = {"convert": 1, "boxes": 1, "embed": 1, "train": 3, "refine": 6, "score": 6, **EVALUATION}
    assert planned(finished, change) == expected


def test_another_seed_adds_a_training_of_each_model_and_its_levels(finished: Path) -> None:
    assert planned(finished, {"experiment": {"seeds": [0, 1]}}) == {"train": 6, "refine": 12, "score": 12, **EVALUATION}


def test_a_changed_title_redoes_tables_and_report_only(finished: Path) -> None:
    assert planned(finished, {"datasets": {"cells": {"title": "Other"}}}) == {"tables": 1, "report": 1}


def test_a_deleted_level_redoes_that_level_and_the_tables(finished: Path) -> None:
    with without(finished / "results/score/cells/proposed/0/40.csv"):
        assert planned(finished) == {"score": 1, **EVALUATION}
    with without(finished / "results/refine/cells/proposed/0/40.parquet"):
        assert planned(finished) == {"refine": 1, "score": 1, **EVALUATION}


# That every result is a target, whose loss Snakemake notices, is a test of test_plans.py.
@pytest.mark.parametrize(
    ("lost", "rule"),
    [("convert/cells.zarr", "convert"), ("embed/cells.json", "embed"), ("claims.csv", "tables"), ("figures", "report")],
)
def test_a_lost_result_is_redone(finished: Path, lost: str, rule: str) -> None:
    with without(finished / "results" / lost):
        assert planned(finished)[rule] == 1


def test_a_users_file_that_is_replaced_redoes_its_data_set(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "results/raw/cells", tmp_path / "data", ignore=shutil.ignore_patterns("*.json"))
    base = yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]["cells"] | SMALL["datasets"]["cells"]
    dataset = base | {"source": {"kind": "path", "folder": "data"}}
    overlay = merged(SMALL, {"datasets": {"mine": dataset}, "experiment": {"datasets": ["mine"]}})
    target = "results/boxes/mine.csv"
    run = snakemake(tmp_path, overlay, "--cores", "2", target)
    assert run.returncode == 0, run.stderr[-4000:]
    redone = {"raw": 1, "convert": 1, "boxes": 1}

    def turn(file: Path) -> None:
        iio.imwrite(file, iio.imread(file)[::-1])

    image, labels = tmp_path / "data/images/0000.png", tmp_path / "data/labels/0000.tif"
    kept = shutil.copy2(image, tmp_path)
    turn(image)
    assert planned_jobs(snakemake(tmp_path, overlay, "-n", target)) == redone
    shutil.copy2(kept, image)
    assert planned_jobs(snakemake(tmp_path, overlay, "-n", target)) == {}
    turn(labels)
    os.utime(labels, (1e9, 1e9))  # older than the results
    assert planned_jobs(snakemake(tmp_path, overlay, "-n", target)) == redone


@pytest.fixture
def plan_after(finished: Path, tmp_path: Path) -> Callable[[str, str, str], dict[str, int]]:
    """The jobs that the finished experiment plans after an edit of a file of the library, in a copy of the project."""
    for name in ("Snakefile", "config.yaml", "workflow", "pipeline_lib", "profiles", "slurm", "envs"):
        source, target = ROOT / name, tmp_path / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy2(source, target)
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(SMALL))

    def plan(file: str, old: str, new: str) -> dict[str, int]:
        text = (tmp_path / "pipeline_lib" / file).read_text()
        assert old in text
        (tmp_path / "pipeline_lib" / file).write_text(text.replace(old, new, 1))
        base = [sys.executable, "-m", "snakemake", "-n", "-s", f"{tmp_path}/Snakefile", "-d", str(finished)]
        files = [str(tmp_path / "config.yaml"), str(tmp_path / "overlay.yaml")]
        env = os.environ | {"PYTHONPATH": str(tmp_path)}
        run = [*base, "--configfile", *files]
        # from the copy, as `python -m` imports from where it is called
        shown = subprocess.run(run, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        return planned_jobs(shown)

    return plan


def test_a_comment_in_the_library_redoes_nothing(plan_after) -> None:
    assert (
        plan_after("inference/iterate.py", "    last = history[-1]\n", "    last = history[-1]  # the newest\n") == {}
    )


def test_a_line_of_iterated_inference_redoes_refine_and_what_follows(plan_after) -> None:
    redone = plan_after("inference/iterate.py", "    last = history[-1]\n", "    last = history[len(history) - 1]\n")
    assert redone == {"refine": 12, "score": 12, **EVALUATION}


def test_a_line_of_training_redoes_trainings_and_what_follows(plan_after) -> None:
    redone = plan_after("training/losses.py", "FOCAL_WEIGHT = 20", "FOCAL_WEIGHT = 10 + 10")
    assert redone == {"train": 6, "refine": 12, "score": 12, **EVALUATION}
