"""Which tiles, objects and boxes a training draws."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.training import PLAIN, SETTINGS, alone, draw_of, training_of

from pipeline_lib.data.boxes import by_tile
from pipeline_lib.data.measured_deviations import read_moves
from pipeline_lib.errors import DataError
from pipeline_lib.training.sampling import TrainingSet, draw_batch, draw_boxes, draw_epoch


def test_data_sets_share_an_epoch_by_their_shares_and_not_by_their_sizes(source, table):
    small = table[table["tile"] == table["tile"].iloc[0]]
    sets = [TrainingSet(source, table, 1.0), TrainingSet(replace(source), small, 3.0)]
    train = training_of(tiles_per_epoch=12).train
    draws, again, other = (draw_epoch(sets, train, 0, epoch) for epoch in (1, 1, 2))
    assert [draw.source is source for draw in draws].count(False) == 9
    assert len({draw.number for draw in draws}) == 12  # no two turns draw the same objects and boxes
    assert [draw.number for draw in draws] == [draw.number for draw in again]
    assert [draw.number for draw in draws] != [draw.number for draw in other]


def test_one_data_set_is_drawn_as_the_first_of_several(source, table):
    one = draw_epoch(alone(source, table), PLAIN.train, 0, 1)
    two = draw_epoch([*alone(source, table), TrainingSet(replace(source), table, 1.0)], PLAIN.train, 0, 1)
    assert {draw.number for draw in one} == {draw.number for draw in two if draw.source is source}


def test_training_boxes_have_the_shares_of_the_mix():
    exact = np.tile(np.array([[100, 100, 200, 200]], np.float32), (100_000, 1))
    sides = np.diff(draw_boxes(np.random.default_rng(0), exact, PLAIN)[:, [0, 2]]).ravel().round()
    values, counts = np.unique(sides, return_counts=True)
    assert values.tolist() == [80, 90, 100, 110, 120]
    np.testing.assert_allclose(counts / len(exact), [0.1, 0.1, 0.6, 0.1, 0.1], atol=0.005)


def test_training_boxes_of_a_mix_with_kinds_are_of_each_alike_often():
    exact = np.tile(np.array([[100, 100, 200, 200]], np.float32), (30_000, 1))
    mix = {"levels": [20], "shares": [1.0], "kinds": ["scale", "edges", "translate"]}
    x0, _, x1, _ = draw_boxes(np.random.default_rng(0), exact, training_of(mix=mix)).T.round()
    shifted = (x1 - x0 == 100) & (abs(x0 - 100) == 20)
    assert np.isin(x0, [80, 90, 110, 120]).all()
    np.testing.assert_allclose(shifted.mean(), 1 / 3, atol=0.01)
    # edges that moved alike are half of a kind, and so is what was scaled
    np.testing.assert_allclose((x1 - x0 == 120).mean(), 1 / 3 / 2 + 1 / 3 / 4, atol=0.01)


def test_training_boxes_of_a_measured_mix_deviate_like_a_row_of_the_file(tmp_path):
    rows = pd.DataFrame({"left": [0.1, 0.0], "top": [0.0, -0.2], "right": [-0.3, 0.0], "bottom": [0.5, 0.0]})
    rows.to_csv(tmp_path / "deviations.csv", index=False)
    exact = np.tile(np.array([[100, 100, 200, 300]], np.float32), (10_000, 1))
    config = training_of(mix={"deviations": str(tmp_path / "deviations.csv")})
    boxes, counts = np.unique(draw_boxes(np.random.default_rng(0), exact, config), axis=0, return_counts=True)
    np.testing.assert_allclose(boxes, [[90, 100, 170, 400], [100, 140, 200, 300]], rtol=1e-6)
    np.testing.assert_allclose(counts / len(exact), 0.5, atol=0.02)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("left,top,right\n0,0,0\n", "expected the columns left, top, right, bottom .* found no bottom"),
        ("left,top,right,bottom\n", "expected a row for each measured box, found none"),
        ("left,top,right,bottom\n0,0,0,0\n-0.6,0,-0.4,0\n", "csv:3: expected deviations of a box with an area"),
        ("left,top,right,bottom\n0,0,,0\n", "csv:2: expected deviations of a box with an area, found 0, 0, nan, 0"),
        ("left,top,right,bottom\n0,0,0,0\n0,none,x,0\n", "csv:3: expected deviations of a box with an area"),
        ("left,top,right,bottom\ninf,0,0,0\n", "csv:2: expected deviations of a box with an area, found inf, 0, 0, 0"),
    ],
)
def test_a_file_that_holds_no_deviations_is_refused(content, message, tmp_path):
    (tmp_path / "deviations.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        read_moves(str(tmp_path / "deviations.csv"))


def test_a_batch_is_a_choice_of_its_image_s_objects_that_changes_with_the_epoch(source, table):
    image, rows = next(by_tile(table))
    assert len(rows) > SETTINGS["objects_per_tile"]
    first, again, other = (draw_batch(draw_of(source, image, rows), PLAIN, 0, epoch) for epoch in (1, 1, 2))
    assert len(first.exact) == len(first.prompts) == len(first.masks) == SETTINGS["objects_per_tile"]
    np.testing.assert_array_equal(first.prompts, again.prompts)
    assert not np.array_equal(first.exact, other.exact)


def test_masks_of_a_batch_lie_in_their_boxes(source, table):
    batch = draw_batch(draw_of(source, *next(by_tile(table))), PLAIN, seed=0, epoch=1)
    for mask, box in zip(batch.masks, batch.exact, strict=True):
        y, x = np.nonzero(mask.numpy())
        assert [x.min(), y.min(), x.max() + 1, y.max() + 1] == box.tolist()
