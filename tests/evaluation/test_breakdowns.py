"""Groups, change rates and worst objects, counted by hand on a tile of four objects."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.stages import run_stage

from pipeline_lib.evaluation.breakdowns import CHANGES, change_lines, sizes
from pipeline_lib.evaluation.summary import write_csv
from pipeline_lib.stages.analysis import analysis
from pipeline_lib.stages.boxes import boxes

SCORES = {  # object: first IoU, iterated, iterations
    1: (0.8, 0.9, 1),
    2: (0.6, 0.9, 2),
    3: (0.7, 0.3, 2),
    4: (0.9, 0.9, 1),
}
ITERATIONS = [  # object, iteration, box, change rate, why it ended
    (1, 0, (1, 1, 3, 3), np.nan, None),  # exact
    (1, 1, (1, 1, 3, 3), 0.01, "converged"),
    (2, 0, (6, 0, 12, 4), np.nan, None),  # too large
    (2, 1, (7, 1, 11, 3), 0.30, None),
    (2, 2, (7, 1, 11, 3), 0.02, "converged"),
    (3, 0, (1, 6, 3, 9), np.nan, None),  # too small
    (3, 1, (1, 6, 5, 9), 0.50, None),
    (3, 2, (1, 6, 5, 9), 0.40, "cap"),
    (4, 0, (8, 7, 16, 12), np.nan, None),  # exact, at the border
    (4, 1, (8, 7, 16, 12), 0.00, "converged"),
]


@pytest.fixture
def results(tmp_path: Path, make_store) -> dict[str, pd.DataFrame]:
    """The three tables of one data set, model, seed and level."""
    objects = np.zeros((2, 12, 16), int)
    objects[1, 1:3, 1:3], objects[1, 1:3, 7:11], objects[1, 6:9, 1:5], objects[1, 7:12, 8:16] = 1, 2, 3, 4
    objects[0, 2:4, 2:4] = 1
    store, table = make_store(objects, ["train", "test"], name="cells"), tmp_path / "boxes/cells.csv"
    boxes(store=store, boxes=str(table))
    score, iterations = (
        tmp_path / f"{stage}/cells/proposed/0/40{end}" for stage, end in (("s", ".csv"), ("r", ".parquet"))
    )
    for file in (score, iterations):
        file.parent.mkdir(parents=True)
    areas = {1: 4, 2: 8, 3: 12, 4: 40}
    rows = [(1, number, 1, areas[number], *figures) for number, figures in SCORES.items()]
    pd.DataFrame(rows, columns=["tile", "object", "slice", "area", "iou", "iou_iterated", "iterations"]).to_csv(
        score, index=False
    )
    history = [(1, number, index, *box, rate, ended) for number, index, box, rate, ended in ITERATIONS]
    columns = ["tile", "object", "iteration", "x0", "y0", "x1", "y1", "change_rate", "ended"]
    pd.DataFrame(history, columns=columns).to_parquet(iterations)
    slots = {name: tmp_path / f"{name}.csv" for name in ("groups", "changes", "worst")}
    run_stage(
        analysis,
        scores=[str(score)],
        iterations=[str(iterations)],
        boxes=[str(table)],
        stores=[store],
        tested={"split": "test", "objects": None},
        **{name: str(path) for name, path in slots.items()},
    )
    return {name: pd.read_csv(path) for name, path in slots.items()}


def test_the_shares_of_worse_and_capped_objects_are_counted(results: dict[str, pd.DataFrame]) -> None:
    everything = results["groups"].query("by == 'all'").iloc[0]
    assert everything[["objects", "miou", "miou_iterated", "gain"]].tolist() == [4, 0.75, 0.75, 0.0]
    assert everything["box_iou"] == pytest.approx((1 + 1 / 3 + 1 / 2 + 1) / 4)
    assert everything[["worse", "capped", "mean_iterations"]].tolist() == [0.25, 0.25, 1.5]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("direction", {"of the right size": 0.05, "too large": 0.3, "too small": -0.4}),
        ("border", {"inside": 0.0, "at the border": 0.0}),
        ("size", {"4–8": 0.1, "8–12": 0.3, "12–40": -0.2}),
    ],
)
def test_groups_gain_what_their_objects_gain(results, by: str, expected: dict[str, float]) -> None:
    groups = results["groups"].query("by == @by").set_index("group")["gain"]
    assert groups.to_dict() == pytest.approx(expected)


def test_change_rates_are_of_the_objects_that_took_the_pass(results: dict[str, pd.DataFrame]) -> None:
    changes = results["changes"].set_index("iteration")
    assert changes["objects"].tolist() == [4, 2]
    assert changes["change_rate"].tolist() == pytest.approx([0.155, 0.21])  # medians of 0, .01, .3, .5 and of .02, .4


def test_the_worst_object_is_named_with_its_place(results: dict[str, pd.DataFrame]) -> None:
    worst = results["worst"].iloc[0]
    assert worst[["tile", "object", "slice_in_volume", "x", "y", "border"]].tolist() == [1, 3, 1, 3.0, 7.5, "inside"]


def test_quartiles_of_size_hold_a_quarter_each() -> None:
    groups = pd.Series(sizes(pd.Series(range(1, 101)))).value_counts()
    assert sorted(groups) == pytest.approx([25] * 4, abs=1)


def test_objects_of_one_size_are_one_group() -> None:
    assert set(sizes(pd.Series([7, 7, 7]))) == {"7–7"}


def test_where_no_object_was_predicted_again_there_are_no_changes(tmp_path: Path) -> None:
    path = tmp_path / "cells/proposed/0/40.parquet"
    path.parent.mkdir(parents=True)
    pd.DataFrame({"iteration": [0, 0], "change_rate": [np.nan, np.nan]}).to_parquet(path)
    write_csv(change_lines([str(path)]), tmp_path / "changes.csv", CHANGES)
    assert pd.read_csv(tmp_path / "changes.csv").columns.tolist() == CHANGES
