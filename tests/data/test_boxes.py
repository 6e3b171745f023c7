"""Exact boxes are compared with boxes counted by hand, and loose boxes with ones computed by hand."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.ops import box_iou as iou_of_all_pairs

from pipeline_lib.data.boxes import (
    box_iou,
    clip,
    deviate,
    deviated,
    evenly_spaced,
    object_boxes,
    object_uniform,
    read_boxes,
    read_objects,
)
from pipeline_lib.errors import DataError
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.stages.boxes import boxes

SCALE = Deviation(kind="scale", direction="both")
BOX = [[10, 20, 30, 60]]  # 20 wide, 40 high
LOW, HIGH = [[0.49] * 4], [[0.5] * 4]  # draws that mean − and +


def table_of(count: int) -> pd.DataFrame:
    """Return a table of the objects 1 to `count` of image 0, each with the box BOX."""
    x0, y0, x1, y1 = BOX[0]
    return pd.DataFrame({"tile": 0, "object": range(1, count + 1), "x0": x0, "y0": y0, "x1": x1, "y1": y1})


# The table of objects


def test_a_box_is_half_open() -> None:
    objects = np.zeros((5, 6), np.uint32)
    objects[1:3, 2:6] = 1
    assert list(object_boxes(objects)) == [(1, 2, 1, 6, 3, 8)]


def test_a_single_pixel_in_the_corner_has_a_box_of_one_pixel() -> None:
    objects = np.zeros((5, 6), np.uint32)
    objects[4, 5] = 1
    assert list(object_boxes(objects)) == [(1, 5, 4, 6, 5, 1)]


def test_objects_without_any_background_are_all_found() -> None:
    assert list(object_boxes(np.array([[1, 2], [1, 2]], np.uint32))) == [(1, 0, 0, 1, 2, 2), (2, 1, 0, 2, 2, 2)]


def test_an_unused_id_is_no_object() -> None:
    assert [number for number, *_ in object_boxes(np.array([[1, 0, 3]], np.uint32))] == [1, 3]


def test_the_table_is_in_the_frame_of_the_tile(make_store: Callable[..., str], tmp_path: Path) -> None:
    objects = np.zeros((1, 4, 7), int)
    objects[0, 1:3, 5:7] = 4  # in the second tile, which is 3 wide
    boxes(store=make_store(objects, ["test"], tile=(4, 4)), boxes=str(tmp_path / "boxes.csv"))
    assert (tmp_path / "boxes.csv").read_text() == "tile,object,split,x0,y0,x1,y1,area\n1,4,test,1,1,3,3,4\n"


def test_a_slice_without_objects_is_just_empty(make_store: Callable[..., str], tmp_path: Path) -> None:
    objects = np.zeros((2, 4, 4), int)
    objects[1, 0, 0] = 1
    boxes(store=make_store(objects, ["test", "test"]), boxes=str(tmp_path / "boxes.csv"))
    assert read_boxes(tmp_path / "boxes.csv")["tile"].tolist() == [1]


def test_a_split_without_objects_is_an_error_that_names_it(make_store: Callable[..., str], tmp_path: Path) -> None:
    objects = np.zeros((2, 4, 4), int)
    objects[0, 0, 0] = 1
    store = make_store(objects, ["train", "validation"], name="epfl")
    with pytest.raises(DataError, match=r"each split of epfl, but validation has none"):
        boxes(store=store, boxes=str(tmp_path / "out" / "boxes.csv"))
    assert not (tmp_path / "out").exists()


# The kinds of deviation


@pytest.mark.parametrize(
    ("law", "draws", "expected"),
    [
        (SCALE, HIGH, [8, 16, 32, 64]),  # 24 × 48 about (20, 40)
        (SCALE, LOW, [12, 24, 28, 56]),  # 16 × 32
        (SCALE, [[0.9, 0.1, 0.1, 0.1]], [8, 16, 32, 64]),  # one draw is enough
        (Deviation(kind="scale", direction="grow"), LOW, [8, 16, 32, 64]),
        (Deviation(kind="scale", direction="shrink"), HIGH, [12, 24, 28, 56]),
        (Deviation(kind="edges", direction="both"), HIGH, [8, 16, 32, 64]),
        (Deviation(kind="edges", direction="both"), LOW, [12, 24, 28, 56]),
        (Deviation(kind="edges", direction="both"), [[0.9, 0.1, 0.1, 0.9]], [8, 24, 28, 64]),
        (Deviation(kind="edges", direction="grow"), LOW, [8, 16, 32, 64]),
        (Deviation(kind="edges", direction="shrink"), HIGH, [12, 24, 28, 56]),
        (Deviation(kind="translate", direction="both"), HIGH, [14, 28, 34, 68]),  # by 4 and 8
        (Deviation(kind="translate", direction="both"), LOW, [6, 12, 26, 52]),
        (Deviation(kind="translate", direction="both"), [[0.9, 0.1, 0.1, 0.9]], [14, 12, 34, 52]),
    ],
)
def test_20_percent_of_deviation_are_as_computed_by_hand(
    law: Deviation, draws: list[list[float]], expected: list[float]
) -> None:
    np.testing.assert_array_equal(deviate(BOX, [20], draws, law), np.array([expected], np.float32))


@pytest.mark.parametrize("level", [0, 10, 20, 30, 40, 50])
@pytest.mark.parametrize(("draws", "sign"), [(LOW, -1), (HIGH, 1)])
def test_scaling_changes_both_sides_by_exactly_the_level(level: int, draws: list[list[float]], sign: int) -> None:
    x0, y0, x1, y1 = deviate([[0, 0, 100, 200]], [level], draws, SCALE)[0]
    assert (x1 - x0, y1 - y0) == (100 + sign * level, 200 + 2 * sign * level)


@pytest.mark.parametrize("kind", ["scale", "edges", "translate"])
def test_without_deviation_a_box_stays_exact(kind: str) -> None:
    np.testing.assert_array_equal(deviate(BOX, [0], LOW, Deviation(kind=kind, direction="both")), BOX)  # type: ignore[arg-type]


def test_each_box_deviates_by_its_own_level_and_draw() -> None:
    loose = deviate(BOX * 3, [0, 20, 40], LOW + HIGH + LOW, SCALE)
    np.testing.assert_array_equal(loose, [[10, 20, 30, 60], [8, 16, 32, 64], [14, 28, 26, 52]])


def test_boxes_are_clipped_at_all_four_borders() -> None:
    np.testing.assert_array_equal(clip(np.array([[-3, -0.5, 9, 4.5]], np.float32), (4, 8)), [[0, 0, 8, 4]])


def test_boxes_are_clipped_each_to_its_own_image() -> None:
    large = np.full((2, 4), [-1, -1, 9, 9], np.float32)
    np.testing.assert_array_equal(clip(large, [[4, 8], [6, 5]]), [[0, 0, 8, 4], [0, 0, 5, 6]])


def test_a_loose_box_ends_at_the_border_of_its_image() -> None:
    grown = deviated(table_of(1), 20, "isbi2012", 0, Deviation(kind="scale", direction="grow"), [[62, 31]])
    np.testing.assert_array_equal(grown, [[8, 16, 31, 62]])


# The draws


def test_half_of_the_objects_grow_and_half_shrink() -> None:
    table = table_of(100_000)
    loose = deviated(table, 40, "isbi2012", 0, SCALE, (1000, 1000))
    widths = loose[:, 2] - loose[:, 0]
    assert set(widths) == {12, 28}
    assert np.mean(widths == 28) == pytest.approx(0.5, abs=0.005)  # 3 standard deviations


def test_draws_are_uniform_and_independent_in_all_four_columns() -> None:
    draws = object_uniform(0, "isbi2012", table_of(20_000), 10)
    shares = [np.histogram(column, bins=10, range=(0, 1))[0] / len(draws) for column in draws.T]
    np.testing.assert_allclose(shares, 0.1, atol=0.01)
    np.testing.assert_allclose(np.corrcoef(draws.T), np.eye(4), atol=0.03)


def test_draws_are_the_same_for_every_model() -> None:
    """Draws depend only on seed, data set, image, object and level, and not on earlier calls."""
    first = object_uniform(7, "isbi2012", table_of(5), 30)
    np.testing.assert_array_equal(first, object_uniform(7, "isbi2012", table_of(5), 30))


def test_draws_are_the_same_in_every_release() -> None:
    """Otherwise results would change silently."""
    draws = object_uniform(7, "isbi2012", table_of(1), 30)
    np.testing.assert_allclose(draws, [[0.041023, 0.165421, 0.835516, 0.529775]], atol=1e-6)


@pytest.mark.parametrize(
    ("seed", "dataset", "tile", "number", "level"),
    [(8, "isbi2012", 0, 1, 30), (7, "epfl", 0, 1, 30), (7, "isbi2012", 1, 1, 30), (7, "isbi2012", 0, 2, 30),
     (7, "isbi2012", 0, 1, 40)],
)  # fmt: skip
def test_each_of_seed_data_set_tile_object_and_level_gives_other_draws(
    seed: int, dataset: str, tile: int, number: int, level: int
) -> None:
    other = pd.DataFrame({"tile": [tile], "object": [number]})
    assert (object_uniform(seed, dataset, other, level) != object_uniform(7, "isbi2012", table_of(1), 30)).all()


def test_removing_rows_does_not_move_the_draws_of_the_others() -> None:
    table = table_of(10)
    kept = [2, 3, 7]
    whole = object_uniform(0, "isbi2012", table, 10)
    np.testing.assert_array_equal(object_uniform(0, "isbi2012", table.iloc[kept], 10), whole[kept])


def test_a_changed_box_does_not_move_its_draws() -> None:
    table = table_of(3)
    changed = table.assign(x1=99)
    np.testing.assert_array_equal(object_uniform(0, "a", table, 10), object_uniform(0, "a", changed, 10))


def test_a_table_without_rows_has_no_draws() -> None:
    assert object_uniform(0, "isbi2012", table_of(0), 10).shape == (0, 4)


def test_some_of_many_objects_are_evenly_spaced() -> None:
    table = pd.DataFrame({"object": range(101)})
    assert evenly_spaced(table, 5)["object"].tolist() == [0, 25, 50, 75, 100]
    assert len(evenly_spaced(table, 1000)) == 101


@pytest.mark.parametrize(("objects", "expected"), [(None, [1, 2, 4]), (2, [1, 4]), (9, [1, 2, 4])])
def test_objects_of_a_split_are_all_or_some_of_them(tmp_path: Path, objects: int | None, expected: list[int]) -> None:
    splits = ["train", "test", "test", "validation", "test"]
    pd.DataFrame({"object": range(5), "split": splits}).to_csv(tmp_path / "boxes.csv", index=False)
    table = read_objects(tmp_path / "boxes.csv", "test", objects)
    assert table["object"].tolist() == expected
    assert table.index.tolist() == list(range(len(expected)))


def test_boxes_overlap_as_torchvision_says() -> None:
    corners = np.random.default_rng(0).uniform(0, 20, (2, 100, 2, 2))
    a, b = np.sort(corners, axis=2).reshape(2, 100, 4)
    expected = iou_of_all_pairs(torch.from_numpy(a), torch.from_numpy(b)).diagonal()
    assert (expected == 0).any()
    assert box_iou(a, b) == pytest.approx(expected.numpy())
    assert box_iou(a[0], a[0]) == 1
