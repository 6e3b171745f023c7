"""The real ISBI 2012 slices through a reduced run of experiments/isbi2012.yaml: fewer slices, epochs and levels."""

import os
from pathlib import Path

import pandas as pd
import pytest
import yaml
from helpers.running import ROOT, snakemake

from pipeline_lib.config import merged
from pipeline_lib.data.dataset import Store

DATA = Path(os.environ.get("LOOSEBOX_ISBI2012", ROOT.parent / "shared/data/isbi2012")).resolve()
REDUCED = {
    "results": "results",
    "experiment": {"levels": [0, 40]},
    "datasets": {"isbi2012": {"source": {"folder": str(DATA)}}},
    "train": {"epochs": 2, "validation_objects": 100},
}
SPLIT = {"train": [0, 4], "validation": [20, 21], "test": [25, 28]}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"ISBI 2012's stacks are not in {DATA}")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the proposed model on a tenth of the training slices."""
    folder = tmp_path_factory.mktemp("isbi2012")
    overlay = merged(yaml.safe_load((ROOT / "experiments/isbi2012.yaml").read_text()), REDUCED)
    overlay["datasets"]["isbi2012"]["volumes"][0]["split"] = SPLIT
    scores = [f"results/score/isbi2012/proposed/0/{level}.csv" for level in (0, 40)]
    run = snakemake(folder, overlay, "--cores", "2", *scores)
    assert run.returncode == 0, run.stderr[-4000:]
    return folder / "results"


def test_the_full_run_keeps_contiguous_blocks_apart() -> None:
    overlay = yaml.safe_load((ROOT / "experiments/isbi2012.yaml").read_text())
    (volume,) = overlay["datasets"]["isbi2012"]["volumes"]
    assert volume["split"] == {"train": [0, 20], "validation": [20, 25], "test": [25, 30]}


def test_no_slice_is_in_two_splits(results: Path) -> None:
    slices = Store.open(results / "convert/isbi2012.zarr").slices
    by_split = {name: {origin.index for origin in slices if origin.split == name} for name in SPLIT}
    assert by_split == {name: set(range(*bounds)) for name, bounds in SPLIT.items()}


def test_masks_of_exact_boxes_are_good(results: Path) -> None:
    scores = pd.read_csv(results / "score/isbi2012/proposed/0/0.csv")
    assert len(scores) > 200
    assert scores["iou"].mean() > 0.7


def test_iteration_repairs_masks_of_loose_boxes(results: Path) -> None:
    scores = pd.read_csv(results / "score/isbi2012/proposed/0/40.csv")
    assert scores["iou_iterated"].mean() > scores["iou"].mean()
    assert scores["iterations"].between(1, 10).all()


def test_training_learns_its_slices(results: Path) -> None:
    curve = pd.read_csv(results / "train/isbi2012/proposed/0.csv")
    assert curve["train_loss"].iloc[-1] < 0.95 * curve["train_loss"].iloc[1]
