"""What a small experiment leaves behind, once it has run as its users run it."""

import shutil
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd
import yaml
from helpers.running import ROOT, SMALL, planned, snakemake

from pipeline_lib.config.overlays import merged
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.data.volumes import read_volumes


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


def test_a_part_beyond_the_papers_is_trained_in_its_own_shape(finished: Path, tmp_path: Path) -> None:
    adapted = {"title": "a", "like": "sam", "trains": ["image_adapter"], "adapter": {"width": 8}}
    copy, trained = tmp_path / "copy", "results/train/cells/adapted/0.safetensors"
    shutil.copytree(finished, copy)
    run = snakemake(copy, merged(SMALL, {"models": {"adapted": adapted}}), "--cores", "2", trained)
    assert run.returncode == 0, run.stderr[-4000:]
    header = ModelHeader.read(copy / trained)
    assert header.model_config == {"trains": ["image_adapter"], "token": None, "adapter": {"width": 8}}
    assert header.training["model"]["adapter"] == {"width": 8}


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
