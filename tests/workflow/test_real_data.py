"""The paper's experiment on its real data sets and released weights, reduced: a slice or two of each, one epoch."""

import os
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers.running import ROOT, snakemake

from pipeline_lib.config.overlays import merged
from pipeline_lib.data.dataset import Store

DATA = Path(os.environ.get("LOOSEBOX_DATA", ROOT.parent / "shared/data")).resolve()
FILES = [ROOT / "experiments" / name for name in ("paper.yaml", "overlays/folder.yaml")]
DATASETS = ("vnc", "isbi2012", "epfl")
ONE_SLICE = {"train": [0, 1], "validation": [1, 2], "test": [2, 3]}
VOLUMES = {
    "vnc": [{"images": "stack1/raw", "labels": "stack1/labels", "split": ONE_SLICE}],
    "isbi2012": [{"images": "train-volume.tif", "labels": "train-labels.tif", "split": ONE_SLICE}],
    "epfl": [
        {"images": "Train_In", "labels": "Train_Out", "split": {"train": [0, 1], "validation": [1, 2]}},
        {"images": "Test_In", "labels": "Test_Out", "split": {"test": [0, 1]}},
    ],
}
REDUCED = {
    "results": "results",
    "data": str(DATA),
    "experiment": {"levels": [0, 40], "models": ["proposed"]},
    "datasets": {name: {"volumes": VOLUMES[name], "minimum_area": 2000, "tile": 512} for name in DATASETS},
    "train": {"epochs": 1, "validation_objects": 10},
}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"the paper's data sets are not in {DATA} (LOOSEBOX_DATA)")


def paper() -> dict:
    """The experiment as it is laid over config.yaml."""
    first, second = (yaml.safe_load(file.read_text()) for file in FILES)
    return merged(first, second)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of results of the reduced experiment."""
    folder = tmp_path_factory.mktemp("paper")
    run = snakemake(folder, merged(paper(), REDUCED), "--cores", "2", "results/tables.md")
    assert run.returncode == 0, run.stderr[-4000:]
    return folder / "results"


@pytest.mark.parametrize("dataset", DATASETS)
def test_each_split_has_the_slices_it_was_given(dataset: str, results: Path) -> None:
    slices = Store.open(results / f"convert/{dataset}.zarr").slices
    given = [
        (number, index, split)
        for number, volume in enumerate(VOLUMES[dataset])
        for split, bounds in volume["split"].items()
        for index in range(*bounds)
    ]
    assert sorted((origin.volume, origin.index, origin.split) for origin in slices) == sorted(given)


@pytest.mark.parametrize("dataset", DATASETS)
def test_released_weights_find_what_exact_boxes_enclose(dataset: str, results: Path) -> None:
    scores = pd.read_csv(results / f"score/{dataset}/proposed/0/0.csv")
    assert len(scores) > 3
    assert scores["iou"].mean() > 0.5


@pytest.mark.parametrize("dataset", DATASETS)
def test_loose_boxes_cost(dataset: str, results: Path) -> None:
    exact, loose = (pd.read_csv(results / f"score/{dataset}/proposed/0/{level}.csv")["iou"] for level in (0, 40))
    assert loose.mean() < exact.mean()


def test_the_paper_is_beside_each_data_set(results: Path) -> None:
    tables = (results / "tables.md").read_text()
    for published in ("(.828)", "(.830)", "(.884)"):  # proposed P at 0 % in the paper's three tables
        assert published in tables
