"""Scores of iterations written by hand."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from helpers.stages import run_stage

from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import to_rle
from pipeline_lib.errors import DataError
from pipeline_lib.evaluation.scores import score_tile
from pipeline_lib.stages.boxes import boxes
from pipeline_lib.stages.score import score


@pytest.fixture
def labels():
    """A test tile with an object of eight pixels and one of a single pixel, then a training tile."""
    tiles = np.zeros((2, 4, 8), int)
    tiles[0, :2, :4], tiles[0, 3, 7] = 1, 2
    tiles[1, 1, 1] = 1
    return tiles


@pytest.fixture
def world(tmp_path, make_store, labels):
    store, table = make_store(labels, ["test", "train"]), str(tmp_path / "boxes.csv")
    boxes(store=store, boxes=table)
    return {
        "store": store,
        "boxes": table,
        "iterations": str(tmp_path / "p.parquet"),
        "scores": str(tmp_path / "s.csv"),
        "tested": {"split": "test", "objects": None},
    }


def box_mask(x0, y0, x1, y1):
    mask = np.zeros((4, 8), bool)
    mask[y0:y1, x0:x1] = True
    return to_rle(mask)


ITERATIONS = [  # image, object, iteration, mask, output
    (0, 2, 0, box_mask(0, 0, 0, 0), True),  # empty at once
    (0, 1, 2, box_mask(0, 0, 0, 0), False),  # went empty, so the one before is the output
    (0, 1, 0, box_mask(0, 0, 2, 2), False),  # 4 of 8
    (0, 1, 1, box_mask(0, 0, 4, 3), True),  # 8 of 12
]


def write(world, iterations):
    pd.DataFrame(iterations, columns=["tile", "object", "iteration", "mask", "output"]).to_parquet(world["iterations"])


def test_scores_are_hand_counted(world):
    write(world, ITERATIONS)
    run_stage(score, **world)
    with open(world["scores"]) as file:
        assert file.read() == (
            "tile,object,slice,area,iou,iou_iterated,iterations,foreground_iou,foreground_iou_iterated\n"
            "0,1,0,8,0.500000,0.666667,2,0.444444,0.615385\n"  # 4 of 9 together, 8 of 13
            "0,2,0,1,0.000000,0.000000,1,0.444444,0.615385\n"
        )


@pytest.mark.parametrize("iterations", [ITERATIONS[1:], [*ITERATIONS, (1, 1, 0, box_mask(0, 0, 1, 1), True)]])
def test_iterations_of_other_objects_are_refused_and_nothing_is_written(world, tmp_path, iterations):
    write(world, iterations)
    with pytest.raises(DataError, match=r"p\.parquet.*is not in both"):
        run_stage(score, **world)
    assert {path.name for path in tmp_path.iterdir()} == {"tiny.zarr", "boxes.csv", "p.parquet"}


def test_scoring_needs_no_torch():
    code = "import sys, pipeline_lib.stages.score; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_masks_of_a_crowded_tile_are_not_held_together(make_store):
    """However many objects there are: 400 masks of this tile are 100 MB."""
    side, cell = 512, 25
    labels = np.zeros((1, side, side), np.uint32)
    for number in range(400):
        y, x = divmod(number, 20)
        labels[0, y * cell : y * cell + 20, x * cell : x * cell + 20] = number + 1
    tiles = Store.open(make_store(labels, ["test"]))
    rows = [(0, number, 0, to_rle(labels[0] == number), True) for number in range(1, 401)]
    history = pd.DataFrame(rows, columns=["tile", "object", "iteration", "mask", "output"])
    tracemalloc.start()
    scored = score_tile(history, tiles, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (scored["iou"] == 1).all()
    assert peak < 10e6
