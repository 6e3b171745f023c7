"""Sums by slice and seconds, from scores and times written by hand."""

import json
from pathlib import Path

import pandas as pd
import pytest

from pipeline_lib.errors import DataError
from pipeline_lib.evaluation.statistics import estimate
from pipeline_lib.evaluation.summary import read_scores, seconds_per_tile, sums_by_slice, table_lines, with_wholes
from pipeline_lib.settings.experiment import Claims, TableDataset, TableModel, TablesConfig


def write_scores(path: Path, *ious: float) -> str:
    """Three objects in a first tile, one in a second, in a slice of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"tile": [0, 0, 0, 1], "object": [1, 2, 3, 1], "slice": [0, 0, 0, 1]})
    table = table.assign(iou=ious, iou_iterated=0.9, iterations=[1, 2, 6, 3])
    table.assign(foreground_iou=[0.5, 0.5, 0.5, 1.0], foreground_iou_iterated=0.8).to_csv(path, index=False)
    return str(path)


@pytest.mark.parametrize(
    ("miou", "expected", "iterated"), [("object", 0.5, 0.9), ("tile", 0.6, 0.9), ("foreground", 0.75, 0.8)]
)
def test_miou_is_averaged_as_the_config_says(tmp_path: Path, miou: str, expected: float, iterated: float) -> None:
    scores = read_scores([write_scores(tmp_path / "cells/sam/0/40.csv", 0.4, 0.4, 0.4, 0.8)])
    sums = sums_by_slice(scores, miou).loc["cells"]
    assert estimate(sums.loc["miou", "sam", False, 40]).value == expected
    assert estimate(sums.loc["miou", "sam", True, 40]).value == iterated
    assert estimate(sums.loc["iterations", "sam", True, 40]).value == 3  # of objects, whatever an mIoU is of


def test_sums_are_those_of_slices_and_seeds_in_order(tmp_path: Path) -> None:
    paths = [write_scores(tmp_path / f"cells/sam/{seed}/40.csv", 0.1 * seed, 0.2, 0.3, 0.8) for seed in (2, 0)]
    sums = sums_by_slice(read_scores(paths), "object").loc["cells", "miou", "sam", False, 40]
    assert sums.index.tolist() == [(0, 0), (0, 1), (2, 0), (2, 1)]
    assert sums["sum"].tolist() == pytest.approx([0.5, 0.8, 0.7, 0.8])
    assert sums["n"].tolist() == [3, 1, 3, 1]


def test_folds_are_one_sample_of_all_their_slices(tmp_path: Path) -> None:
    ious = {"cells_1": (0.1, 0.2, 0.3, 0.8), "cells_2": (0.5, 0.6, 0.7, 0.4)}
    scores = read_scores([write_scores(tmp_path / f"{fold}/sam/0/40.csv", *own) for fold, own in ious.items()])
    parts = {"cells": tuple(ious)} | {fold: (fold,) for fold in ious}
    experiment = TablesConfig(
        datasets={name: TableDataset(title=name, published=None, parts=folds) for name, folds in parts.items()},
        models={"sam": TableModel(title="SAM", prompt_tuned=False)},
        seeds=(0,),
        levels=(40,),
        split="test",
        objects=None,
        miou="object",
        claims=Claims(max_loss=0.01, min_gain_ratio=2.0, max_time_ratio=1.5),
    )
    cells = with_wholes(scores, experiment)
    sums = sums_by_slice(cells, "object")
    assert sums.loc["cells", "miou", "sam", False, 40]["sum"].tolist() == pytest.approx([0.6, 0.8, 1.8, 0.4])
    lines = {line["dataset"]: line for line in table_lines(cells, sums, experiment) if not line["iterated"]}
    sizes = {name: [line[key] for key in ("miou", "objects", "tiles", "slices")] for name, line in lines.items()}
    assert sizes == {"cells": [0.45, 8, 4, 4], "cells_1": [0.35, 4, 2, 2], "cells_2": [0.55, 4, 2, 2]}


def test_cells_of_other_objects_are_refused(tmp_path: Path) -> None:
    paths = [write_scores(tmp_path / f"cells/{model}/0/20.csv", *[0.5] * 4) for model in ("sam", "sam_p")]
    pd.read_csv(paths[1]).iloc[1:].to_csv(paths[1], index=False)
    with pytest.raises(DataError, match=r"objects in all cells of cells; cells/sam/0/20 has 4, .*sam_p/0/20 has 3"):
        read_scores(paths)


def test_seconds_are_of_the_proposed_model_at_the_highest_level_of_the_claims(tmp_path: Path) -> None:
    cells = [
        f"{dataset}/{model}/0/{level}"
        for dataset, model, level in [
            ("cells", "proposed", 40),
            ("cells", "proposed", 30),
            ("cells", "sam", 40),
            ("others", "sam", 40),
        ]
    ]
    scores = read_scores([write_scores(tmp_path / f"{cell}.csv", *[0.5] * 4) for cell in cells])
    timings = [tmp_path / f"{cell}.json" for cell in cells]
    for path in timings:
        path.write_text(json.dumps({"tiles": 2, "first_seconds": 0.2, "repeated_seconds": 0.4}))
    encoded = [tmp_path / f"{dataset}.json" for dataset in ("cells", "others")]
    for path in encoded:
        path.write_text(json.dumps({"seconds_per_tile": 0.4}))
    seconds = seconds_per_tile(scores, map(str, timings), map(str, encoded))
    expected = {"dataset": "cells", "seed": 0, "encode": 0.4, "first": 0.1, "repeated": 0.2, "iterations": 4.5}
    assert seconds.to_dict("records") == [expected]
