"""The workflow as its users run it: a small experiment once, then what each change of config or files would redo."""

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import yaml
from helpers.running import ROOT, SMALL, planned_jobs, snakemake

from pipeline_lib.config.overlays import merged
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.data.volumes import read_volumes

ONCE = {
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
TOLD = {"audit": 1, "tables": 1, "analysis": 1, "report": 1}


def planned(folder: Path, change: dict | None = None, *arguments: str) -> dict[str, int]:
    """The jobs that a change of the small experiment would cause."""
    return planned_jobs(snakemake(folder, merged(SMALL, change or {}), "-n", *arguments))


@contextmanager
def without(file: Path) -> Iterator[None]:
    aside = file.with_suffix(".aside")
    file.rename(aside)
    try:
        yield
    finally:
        aside.rename(file)


def test_dry_run_from_scratch_lists_every_job(tmp_path: Path) -> None:
    assert planned(tmp_path) == ONCE


def test_the_embedded_default_fans_out_per_data_set_model_and_level(tmp_path: Path) -> None:
    jobs = planned_jobs(snakemake(tmp_path, {}, "-n"))
    assert {rule: jobs[rule] for rule in ("train", "refine", "score")} == {"train": 9, "refine": 45, "score": 45}


@pytest.mark.parametrize(
    ("overlay", "trained", "rows"),
    [
        ("tau", 1, 5),
        ("iterations", 1, 6),
        ("token", 5, 5),
        ("mix", 3, 3),
        ("deviation", 5, 5),
        ("sam_boxes", 5, 5),
        ("loss", 2, 2),
    ],
)
def test_an_ablation_is_rows_of_one_table(tmp_path: Path, overlay: str, trained: int, rows: int) -> None:
    jobs = planned_jobs(
        snakemake(tmp_path, yaml.safe_load((ROOT / f"experiments/ablations/{overlay}.yaml").read_text()), "-n")
    )
    assert {rule: jobs[rule] for rule in ("embed", "train", "refine", "score", "tables")} == {
        "embed": 1,
        "train": trained,
        "refine": 5 * rows,
        "score": 5 * rows,
        "tables": 1,
    }


def test_a_row_that_borrows_weights_is_refined_alone(finished: Path) -> None:
    change = {
        "experiment": {"models": ["sam", "sam_p", "proposed", "patient"]},
        "models": {"patient": {"title": "p", "weights_of": "proposed", "refine": {"tau": 0.01}}},
    }
    assert planned(finished, change) == {"refine": 4, "score": 4, **TOLD}


def test_a_model_that_is_no_row_is_not_run(finished: Path) -> None:
    assert planned(finished, {"experiment": {"models": ["sam", "proposed"]}}) == TOLD


def test_what_a_model_lays_over_a_section_redoes_that_model(finished: Path) -> None:
    assert planned(finished, {"models": {"sam": {"train": {"loss": "bce_dice"}}}}) == {
        "train": 2,
        "refine": 4,
        "score": 4,
        **TOLD,
    }


def test_a_part_beyond_the_papers_is_trained_in_its_own_shape(finished: Path, tmp_path: Path) -> None:
    adapted = {"title": "a", "like": "sam", "trains": ["image_adapter"], "adapter": {"width": 8}}
    copy, trained = tmp_path / "copy", "results/train/cells/adapted/0.safetensors"
    shutil.copytree(finished, copy)
    run = snakemake(copy, merged(SMALL, {"models": {"adapted": adapted}}), "--cores", "2", trained)
    assert run.returncode == 0, run.stderr[-4000:]
    header = ModelHeader.read(copy / trained)
    assert header.model_config == {"trains": ["image_adapter"], "token": None, "adapter": {"width": 8}}
    assert header.training["model"]["adapter"] == {"width": 8}


def test_nothing_is_left_to_do_after_a_finished_run(finished: Path) -> None:
    assert planned(finished) == {}


def test_a_deleted_level_redoes_that_level_and_the_tables(finished: Path) -> None:
    with without(finished / "results/score/cells/proposed/0/40.csv"):
        assert planned(finished) == {"score": 1, **TOLD}
    with without(finished / "results/refine/cells/proposed/0/40.parquet"):
        assert planned(finished) == {"refine": 1, "score": 1, **TOLD}


WHATEVER = [
    ("raw/cells/manifest.json", "raw"),
    ("convert/cells.zarr", "convert"),
    ("boxes/cells.csv", "boxes"),
    ("weights/micro.json", "weights"),
    ("embed/cells.zarr", "embed"),
    ("embed/cells.json", "embed"),
    ("train/cells/sam/0.safetensors", "train"),
    ("train/cells/sam/0.csv", "train"),
    ("refine/cells/sam/0/0.parquet", "refine"),
    ("refine/cells/sam/0/0.json", "refine"),
    ("score/cells/sam/0/0.csv", "score"),
    ("audit.csv", "audit"),
    ("tables.md", "tables"),
    ("tables.csv", "tables"),
    ("differences.csv", "tables"),
    ("claims.csv", "tables"),
    ("analysis/worst.csv", "analysis"),
    ("report.html", "report"),
    ("figures", "report"),
]


@pytest.mark.parametrize(("lost", "rule"), WHATEVER)
def test_whatever_is_lost_is_made_again(finished: Path, lost: str, rule: str) -> None:
    with without(finished / "results" / lost):
        assert planned(finished)[rule] == 1


def test_results_that_were_moved_stay_finished_and_are_their_own(finished: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(finished, moved)
    assert planned(moved) == {}
    for volume in read_volumes(moved / "results/raw/cells/manifest.json"):
        assert volume["images"].startswith(str(moved))
    shutil.rmtree(moved / "results/convert/cells.zarr")
    labels = moved / "results/raw/cells/labels/0000.tif"
    iio.imwrite(labels, np.zeros_like(iio.imread(labels)))
    run = snakemake(moved, SMALL, "--cores", "1", "results/convert/cells.zarr", "--rerun-triggers", "mtime")
    assert run.returncode != 0  # and not the labels of the folder that it was copied from
    assert "results/raw/cells/labels: changed since" in run.stderr


def test_labels_that_are_replaced_by_older_ones_are_noticed(mine: tuple[Path, dict]) -> None:
    folder, overlay = mine
    labels = folder / "data/labels/0000.tif"
    iio.imwrite(labels, iio.imread(labels)[::-1])
    os.utime(labels, (1e9, 1e9))
    again = planned_jobs(snakemake(folder, overlay, "-n", "results/boxes/mine.csv"))
    assert again == {"raw": 1, "convert": 1, "boxes": 1}


def test_another_order_of_a_splits_ranges_redoes_nothing(finished: Path) -> None:
    volumes = SMALL["datasets"]["cells"]["volumes"]
    turned = [volume | {"split": dict(reversed(volume["split"].items()))} for volume in volumes]
    assert list(turned[0]["split"]) != list(volumes[0]["split"])
    assert planned(finished, {"datasets": {"cells": {"volumes": turned}}}) == {}


def test_a_forced_level_runs_alone(finished: Path) -> None:
    assert planned(finished, {}, "results/score/cells/sam/0/40.csv", "--force") == {"score": 1}


def test_a_new_level_adds_only_its_own_jobs(finished: Path) -> None:
    assert planned(finished, {"experiment": {"levels": [0, 40, 50]}}) == {"refine": 6, "score": 6, **TOLD}


def test_another_tau_redoes_refine_and_after(finished: Path) -> None:
    assert planned(finished, {"refine": {"tau": 0.1}}) == {"refine": 12, "score": 12, **TOLD}


def test_another_learning_rate_keeps_the_embeddings(finished: Path) -> None:
    expected = {"train": 6, "refine": 12, "score": 12, **TOLD}
    assert planned(finished, {"train": {"learning_rate": 0.001}}) == expected


def test_a_changed_data_set_leaves_the_others_alone(finished: Path) -> None:
    change = {"datasets": {"cells": {"minimum_area": 80}}}
    expected = {"convert": 1, "boxes": 1, "embed": 1, "train": 3, "refine": 6, "score": 6, **TOLD}
    assert planned(finished, change) == expected


@pytest.fixture
def edited(finished: Path, tmp_path: Path) -> Callable[[str, str, str], dict[str, int]]:
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


def test_a_comment_in_the_library_redoes_nothing(edited) -> None:
    assert edited("inference/iterate.py", "    last = history[-1]\n", "    last = history[-1]  # the newest\n") == {}


def test_a_line_of_iterated_inference_redoes_refine_and_what_follows(edited) -> None:
    redone = edited("inference/iterate.py", "    last = history[-1]\n", "    last = history[len(history) - 1]\n")
    assert redone == {"refine": 12, "score": 12, **TOLD}


def test_a_line_of_training_redoes_trainings_and_what_follows(edited) -> None:
    redone = edited("training/losses.py", "FOCAL_WEIGHT = 20", "FOCAL_WEIGHT = 10 + 10")
    assert redone == {"train": 6, "refine": 12, "score": 12, **TOLD}


@pytest.fixture
def mine(finished: Path, tmp_path: Path) -> tuple[Path, dict]:
    """A folder with a user's own files, converted, and its overlay."""
    shutil.copytree(finished / "results/raw/cells", tmp_path / "data", ignore=shutil.ignore_patterns("*.json"))
    base = yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]["cells"] | SMALL["datasets"]["cells"]
    dataset = base | {"source": {"kind": "path", "folder": "data"}}
    overlay = merged(SMALL, {"datasets": {"mine": dataset}, "experiment": {"datasets": ["mine"]}})
    run = snakemake(tmp_path, overlay, "--cores", "2", "results/boxes/mine.csv")
    assert run.returncode == 0, run.stderr[-4000:]
    return tmp_path, overlay


def test_an_overwritten_slice_redoes_its_data_set(mine: tuple[Path, dict]) -> None:
    folder, overlay = mine
    image = folder / "data/images/0000.png"
    iio.imwrite(image, iio.imread(image)[::-1])
    again = planned_jobs(snakemake(folder, overlay, "-n", "results/boxes/mine.csv"))
    assert again == {"raw": 1, "convert": 1, "boxes": 1}


def test_another_seed_adds_a_training_of_each_model_and_its_levels(finished: Path) -> None:
    assert planned(finished, {"experiment": {"seeds": [0, 1]}}) == {"train": 6, "refine": 12, "score": 12, **TOLD}


def test_a_changed_title_redoes_tables_and_report_only(finished: Path) -> None:
    assert planned(finished, {"datasets": {"cells": {"title": "Other"}}}) == {"tables": 1, "report": 1}


def test_two_runs_from_scratch_give_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    run = snakemake(tmp_path, merged(SMALL, {"experiment": {"datasets": ["cells"]}}), "--cores", "2")
    assert run.returncode == 0, run.stderr[-4000:]
    again = sorted(path.relative_to(tmp_path) for path in (tmp_path / "results").glob("*/**/cells/**/*.csv"))
    assert len(again) == 3 + 6  # loss curves and scores
    pictures = sorted(path.relative_to(tmp_path) for path in (tmp_path / "results/figures").glob("cells_*"))
    assert len(pictures) > 10
    for path in [*again, *pictures, Path("results/boxes/cells.csv")]:
        assert (tmp_path / path).read_bytes() == (finished / path).read_bytes(), path


def test_tables_hold_every_row_of_every_data_set(finished: Path) -> None:
    rows = (finished / "results/tables.csv").read_text().splitlines()
    assert rows[0].startswith("dataset,model,iterated,level,miou,")
    assert len(rows) - 1 == 2 * 3 * 2 * 2  # data sets, models, with and without iteration, levels


def test_every_model_is_given_the_same_boxes(finished: Path) -> None:
    files = [finished / f"results/refine/cells/{model}/0/40.parquet" for model in ("sam", "sam_p", "proposed")]
    columns = ["tile", "object", "x0", "y0", "x1", "y1"]
    first, *others = (pd.read_parquet(file).query("iteration == 0")[columns].reset_index(drop=True) for file in files)
    for other in others:
        pd.testing.assert_frame_equal(first, other)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"refine": {"taus": 0.1}}, "refine.taus is no key; did you mean refine.tau?"),
        ({"refine": {"tau": 2}}, "tau"),
        ({"experiment": {"levels": [0, 150]}}, "levels"),
        ({"experiment": {"datasets": ["nowhere"]}}, "nowhere"),
        ({"train": {"mixes": {"paper": {"shares": [0.6, 0.2, 0.1]}}}}, "train.mixes.paper"),
        ({"models": {"sam": {"mix": "none"}}}, "models.sam.mix"),
        ({"models": {"sam": {"token": {"count": 2}}}}, "models.sam.token"),
        ({"models": {"sam": {"adapter": {"width": 8}}}}, "models.sam.adapter"),
        ({"models": {"mine": {"title": "m", "like": "nobody"}}}, "models.mine.like"),
        ({"models": {"sam": {"like": "sam_p"}, "sam_p": {"like": "sam"}}}, "leads back"),
        ({"models": {"sam": {"prompt_tuning": True}}}, "models.sam.prompt_tuning"),
        ({"models": {"sam": {"refine": {"precision": "float32"}}}}, "precision is one for all models"),
        ({"models": {"sam": {"train": {"precision": "float32"}}}}, "precision is one for all models"),
        ({"models": {"proposed": {"weights_off": "sam"}}}, "models.proposed.weights_off"),
        ({"models": {"proposed": {"refine": {"taus": 0.1}}}}, "models.proposed.refine.taus"),
        ({"models": {"proposed": {"train": {"mixes": {}}}}}, "mixes"),
        ({"models": {"mine": {"title": "m", "weights_of": "nobody"}}}, "models.mine.weights"),
        ({"experiment": {"models": ["nobody"]}}, "nobody"),
        ({"deviation": {"kind": "translate", "direction": "grow"}}, "deviation.direction"),
        (
            {"deviation": {"direction": "grow"}, "train": {"mixes": {"paper": {"kinds": ["translate"]}}}},
            "models.sam.mix draws the kind 'translate'",
        ),
        (
            {"models": {"sam": {"deviation": {"kind": "translate", "direction": "grow"}}}},
            "models.sam.deviation.direction",
        ),
        ({"datasets": {"cells": {"grey_range": [255, 0]}}}, "datasets.cells.grey_range"),
        ({"datasets": {"cells": {"grey_range": [0, math.inf]}}}, "datasets.cells.grey_range.1 is inf"),
        ({"refine": {"tau": math.nan}}, "refine.tau is nan"),
        ({"train": {"epochs": 1.0}}, "train.epochs is 1.0, expected an integer of at least 0"),
        ({"experiment": {"seeds": [2**40]}}, "1099511627776"),
        ({"results": "~/x"}, "~/x"),
        ({"results": "{x}"}, "{x}"),
        ({"results": "<logs>"}, "<logs>"),
        ({"results": "x" * 300}, "xxx"),
        ({"datasets": {"cells": {"title": "two\nlines"}}}, "lines"),
        (
            {
                "datasets": {
                    "cells": {"volumes": [{"images": "a", "labels": "b", "split": {"train": [0, 2], "test": [1, 3]}}]}
                }
            },
            "a",
        ),
    ],
)
def test_a_misspelt_or_impossible_value_stops_the_run_with_its_name(tmp_path: Path, change: dict, named: str) -> None:
    run = snakemake(tmp_path, merged(SMALL, change), "-n")
    assert run.returncode != 0
    assert named in run.stdout + run.stderr
    assert not (tmp_path / "results").exists()


def test_a_missing_file_of_the_user_is_named_before_any_job(tmp_path: Path) -> None:
    source = {"kind": "path", "folder": "nowhere"}
    overlay = merged(SMALL, {"experiment": {"datasets": ["mine"]}})
    overlay["datasets"]["mine"] = yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]["cells"] | {
        "source": source
    }
    run = snakemake(tmp_path, overlay, "-n")
    assert run.returncode != 0
    assert "nowhere/images" in run.stdout + run.stderr


def test_bad_data_stops_before_any_job_that_needs_a_gpu(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "results/raw/cells", tmp_path / "data", ignore=shutil.ignore_patterns("manifest.json"))
    labels = sorted((tmp_path / "data/labels").iterdir())
    labels[0].unlink()
    overlay = merged(SMALL, {"experiment": {"datasets": ["mine"]}})
    base = yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]["cells"] | SMALL["datasets"]["cells"]
    overlay["datasets"]["mine"] = base | {"source": {"kind": "path", "folder": "data"}}
    run = snakemake(tmp_path, overlay, "--cores", "1")
    assert run.returncode != 0
    assert "rule raw" in run.stdout + run.stderr
    log = (tmp_path / "results/logs/raw/mine.log").read_text()
    assert "found 2 slices of 256 × 256 pixels" in log
    assert str(tmp_path / "data/labels") in log
    assert not (tmp_path / "results/embed").exists()
