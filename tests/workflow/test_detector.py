"""The scripts that train a detector and compare models on its boxes, on generated tiles."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch
from helpers.running import ROOT, SMALL

from pipeline_lib.config.defaults import default_config
from pipeline_lib.config.overlays import merged
from pipeline_lib.config.read import read_config
from pipeline_lib.data.boxes import XYXY

PARTS = ("convert", "boxes", "embed", "weights", "train")
SCRIPTS = ("network", "tiles", "average_precision", "train", "detect", "chain")


@pytest.fixture
def results(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of results with trained models, and scripts that can be imported."""
    monkeypatch.syspath_prepend(ROOT / "experiments/detector")
    monkeypatch.chdir(tmp_path)
    Path("results").mkdir()
    for part in PARTS:
        Path("results", part).symlink_to(finished / "results" / part)
    yield Path("results")
    for name in SCRIPTS:
        sys.modules.pop(name, None)


def test_an_interrupted_training_ends_in_the_same_detector(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import train

    monkeypatch.setattr(train, "SAVED", 1)
    folder, draw = results / "detector/cells", train.draw_batch
    train.train(results, "cells", (2,))
    whole = torch.load(folder / "2.pt", weights_only=True)
    (folder / "2.pt").unlink()

    def interrupted(*arguments):
        if arguments[-1] == [0, 1]:
            raise KeyboardInterrupt
        return draw(*arguments)

    monkeypatch.setattr(train, "draw_batch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.train(results, "cells", (2,))
    monkeypatch.setattr(train, "draw_batch", draw)
    assert (folder / "unfinished.pt").exists()
    train.train(results, "cells", (2,))
    again = torch.load(folder / "2.pt", weights_only=True)
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    assert not (folder / "unfinished.pt").exists()


def test_masks_of_exact_boxes_are_those_of_the_tables(results: Path, finished: Path) -> None:
    import chain
    import detect

    table = pd.read_csv(results / "boxes/cells.csv")
    folder = results / "detector/cells"
    (folder / "5").mkdir(parents=True)
    (folder / "5.pt").touch()  # the boxes are there already
    for split in ("validation", "test"):
        exact = table[table["split"] == split]
        stray = exact.iloc[:1].assign(x0=0, y0=0, x1=2, y1=2)
        boxes = pd.concat([exact, stray])[["tile", *XYXY]].rename(columns={"tile": "image"})
        where = [f"box {number}" for number in range(len(boxes))]
        boxes.assign(slice=0, score=[0.9] * len(exact) + [0.1], where=where).to_csv(
            folder / f"5/{split}.csv", index=False
        )

    (detector,) = detect.detect(results, "cells").to_dict("records")
    objects = int((table["split"] == "test").sum())
    assert (detector["steps"], detector["test_pairs"], detector["test_recall"]) == (5, objects, 1.0)
    assert (detector["test_precision"], detector["test_box_iou"], detector["test_outward_sd"]) == (1.0, 1.0, 0.0)
    assert detector["test_ap"] == pytest.approx(1.0)

    config = read_config(merged(default_config(), SMALL))
    masks = chain.chain(config, "cells", "test", ["sam", "proposed"]).set_index(["model", "masks"])
    for model in ("sam", "proposed"):
        scores = pd.read_csv(finished / f"results/score/cells/{model}/0/0.csv")
        for kind, column in (("first", "iou"), ("iterated", "iou_iterated")):
            assert masks.loc[(model, kind), "objects"] == objects
            assert masks.loc[(model, kind), "miou"] == pytest.approx(scores[column].mean(), abs=1e-3)
            assert masks.loc[(model, kind), "ap50"] == pytest.approx((scores[column] >= 0.5).mean(), abs=0.1)


def test_a_detector_that_finds_nothing_is_left_out(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import detect

    folder = results / "detector/cells"
    (folder / "1").mkdir(parents=True)
    (folder / "1.pt").touch()
    for split in ("validation", "test"):
        columns = ["image", "slice", *XYXY, "score", "where"]
        pd.DataFrame(columns=columns).to_csv(folder / f"1/{split}.csv", index=False)
    assert detect.detect(results, "cells").empty
    assert "1.pt: finds no object of the validation split" in capsys.readouterr().out
