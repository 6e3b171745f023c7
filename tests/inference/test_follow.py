"""Which slices an object is followed through, with rows made by hand; no network is needed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.table import read_box_files
from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.masks import to_rle
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.track_tables import EDGE, slices_table, volume_table
from pipeline_lib.data.tracks import Numbers, PlacedMask, Tracks, object_numbers
from pipeline_lib.errors import DataError
from pipeline_lib.inference.follow import ending, follow, grey_distribution, likeness
from pipeline_lib.settings.segment import TrackConfig

DEPTH, SIDE = 12, 16
FLAGS = {"predicted_iou": 0.7, "abrupt": 0.5, "growth": 2.0, "agreement": 0.5, "shared": 0.2}
LEAST = {"overlap": 0.4, "confidence": 0.8, "likeness": 0.6}
CONFIG = TrackConfig.model_validate({"max_iterations": 0, "shards": 1, "flags": FLAGS, **LEAST})
IMAGE = ImageFile("v", "v", (DEPTH, SIDE, SIDE), None, "")


def square(x: int, side: int = 4) -> np.ndarray:
    """A mask of a slice."""
    mask = np.zeros((SIDE, SIDE), bool)
    mask[2 : 2 + side, x : x + side] = True
    return mask


def row(number: int, start: int, direction: int, z: int, x: int = 2, iou: float = 0.9, **others: Any) -> dict[Any, Any]:
    """A row of `TRACKS`."""
    placed = {"window_y": 0, "window_x": 0, "window_side": SIDE, "mask": to_rle(square(x))}
    told = {"object": number, "start": start, "direction": direction, "slice": z, "predicted_iou": iou}
    return told | placed | {"overlap": 0.9, "confidence": 1.0, "likeness": 1.0, "ended": None} | others


class Slices:
    """Makes rows, and notes where; an object ends at the slices that are named."""

    def __init__(self, ends: Mapping[tuple[int, int, int], str] = {}) -> None:
        self.ends, self.rows = ends, list[dict[Any, Any]]()

    def __call__(self, z: int, direction: int, last: Mapping[int, dict[Any, Any]]) -> list[dict[Any, Any]]:
        rows = [
            row(number, before["start"], direction, z, ended=self.ends.get((number, direction, z)))
            for number, before in last.items()
        ]
        assert all(abs(before["slice"] - z) == 1 for before in last.values())
        self.rows += rows
        return rows

    def places(self, number: int) -> list[tuple[int, int, int]]:
        """Start, direction and slice of each row of an object."""
        return [(each["start"], each["direction"], each["slice"]) for each in self.rows if each["object"] == number]


def test_a_box_is_followed_to_both_ends_of_the_volume() -> None:
    slices = Slices()
    follow([row(1, 9, 0, 9), row(2, 0, 0, 0)], DEPTH, slices)
    assert slices.places(1) == [(9, 1, 10), (9, 1, 11), *((9, -1, z) for z in range(8, -1, -1))]
    assert slices.places(2) == [(0, 1, z) for z in range(1, DEPTH)]


def test_an_object_ends_on_each_side_by_itself() -> None:
    slices = Slices({(1, 1, 7): "overlap", (1, -1, 3): "likeness"})
    follow([row(1, 5, 0, 5)], DEPTH, slices)
    assert slices.places(1) == [(5, 1, 6), (5, 1, 7), (5, -1, 4), (5, -1, 3)]


def test_an_empty_mask_is_not_followed() -> None:
    slices = Slices()
    follow([row(1, 5, 0, 5, ended="empty")], DEPTH, slices)
    assert slices.rows == []


def test_two_boxes_of_an_object_meet_in_the_middle() -> None:
    slices = Slices({(1, 1, 9): "overlap", (1, -1, 1): "overlap"})
    follow([row(1, 2, 0, 2), row(1, 8, 0, 8)], DEPTH, slices)
    between = [(2, 1, 3), (2, 1, 4), (2, 1, 5)], [(8, -1, 7), (8, -1, 6), (8, -1, 5)]
    assert slices.places(1) == [*between[0], (8, 1, 9), *between[1], (2, -1, 1)]


def test_if_one_track_ends_early_the_other_goes_on_to_it() -> None:
    slices = Slices({(1, 1, 4): "overlap", (1, 1, 9): "overlap", (1, -1, 1): "overlap"})
    follow([row(1, 2, 0, 2), row(1, 8, 0, 8)], DEPTH, slices)
    assert slices.places(1) == [(2, 1, 3), (2, 1, 4), (8, 1, 9), *((8, -1, z) for z in (7, 6, 5, 4, 3)), (2, -1, 1)]


def test_if_the_track_from_the_later_box_ends_early_the_other_goes_on_to_it() -> None:
    slices = Slices({(1, -1, 6): "overlap", (1, 1, 9): "overlap", (1, -1, 1): "overlap"})
    follow([row(1, 2, 0, 2), row(1, 8, 0, 8)], DEPTH, slices)
    first = [(2, 1, 3), (2, 1, 4), (2, 1, 5), (8, 1, 9), (8, -1, 7), (8, -1, 6), (2, -1, 1)]
    assert slices.places(1) == [*first, (2, 1, 6), (2, 1, 7)]


def test_nothing_between_two_boxes_is_left_out_if_one_of_them_has_no_mask() -> None:
    for empty in (2, 8):
        slices = Slices()
        follow([row(1, z, 0, z, ended="empty" if z == empty else None) for z in (2, 8)], DEPTH, slices)
        between = [z for _, _, z in slices.places(1) if 2 < z < 8]
        assert sorted(between) == [3, 4, 5, 6, 7]


@pytest.mark.parametrize("second", [3, 4])
def test_boxes_on_neighbouring_slices_leave_nothing_between_twice(second: int) -> None:
    slices = Slices({(1, 1, second + 1): "overlap", (1, -1, 1): "overlap"})
    follow([row(1, 2, 0, 2), row(1, second, 0, second)], DEPTH, slices)
    between = {z for _, _, z in slices.places(1) if 2 < z < second}
    assert between == set(range(3, second))
    assert not {2, second} & {z for _, _, z in slices.places(1)}


def test_why_an_object_ends() -> None:
    assert ending(True, row(1, 0, 1, 1), CONFIG) == "empty"
    assert ending(False, row(1, 0, 1, 1, **LEAST), CONFIG) is None
    for measure, limit in LEAST.items():
        assert (
            ending(False, row(1, 0, 1, 1, **{measure: limit - 0.01}), CONFIG)
            == f"{measure} {limit - 0.01:.3f} < {limit}"
        )


def test_greys_of_an_object_are_alike_in_a_slice_of_another_brightness() -> None:
    rng, mask = np.random.default_rng(0), square(3, side=10)
    image = np.where(mask, 60, 120) + rng.integers(-8, 8, mask.shape)
    greys = [grey_distribution(pixels.astype(np.uint8), mask) for pixels in (image, image // 2 + 90, 180 - image)]
    assert greys[0][-1] == 1
    assert likeness(greys[0], greys[1]) > 0.85
    assert likeness(greys[0], greys[2]) < 0.2
    assert grey_distribution(image.astype(np.uint8), mask & False).sum() == 0


def test_greys_of_an_object_stay_alike_if_dark_neighbours_leave_the_window() -> None:
    rng, mask = np.random.default_rng(0), np.zeros((80, 80), bool)
    mask[30:50, 30:50] = True
    alone = np.where(mask, 80, 160) + rng.normal(0, 12, mask.shape)
    beside = alone.copy()
    beside[:12] -= 80
    greys = [grey_distribution(pixels.clip(0, 255).astype(np.uint8), mask) for pixels in (alone, beside)]
    assert likeness(*greys) > 0.85


def test_masks_of_different_windows_overlap_where_they_are_in_the_slice() -> None:
    whole = square(4)
    assert PlacedMask(whole, 0, 0).overlap(PlacedMask(whole[1:, 3:], 1, 3)) == 1
    assert PlacedMask(whole, 0, 0).overlap(PlacedMask(square(6), 0, 0)) == pytest.approx(8 / 24)
    assert PlacedMask(whole, 0, 0).overlap(PlacedMask(whole, 0, 100)) == 0


def given(*boxes: tuple[str, int]) -> pd.DataFrame:
    """Boxes by name and slice, as the stage prompts has them."""
    table = pd.DataFrame(boxes, columns=["name", "slice"], index=range(1, len(boxes) + 1))
    return table.assign(track=table["name"], where=[f"a.csv:{line}" for line in table.index], label="", reason="")


def test_boxes_that_share_a_name_are_of_one_object() -> None:
    assert object_numbers(given(("a", 1), ("", 1), ("b", 1), ("a", 2), ("", 1))).tolist() == [1, 2, 3, 1, 4]
    others = given(("a", 1), ("a", 2)).assign(where=["a.csv:1", "b.csv:1"])
    assert object_numbers(others).tolist() == [1, 2]  # numbers of a file mean nothing in another one
    with pytest.raises(
        DataError,
        match=r"a\.csv:1 and a\.csv:3: expected one box for an object on slice 1, found two with the name 'a'",
    ):
        object_numbers(given(("a", 1), ("b", 1), ("a", 1)))


def test_numbers_that_begin_anew_in_each_image_join_no_boxes(tmp_path: Path) -> None:
    images = Images({"v": IMAGE.shape}, slices={"z0.tif": 0, "z5.tif": 5})
    objects = {}
    for header in ("image,label,bbox-0,bbox-1,bbox-2,bbox-3", "image,name,x0,y0,x1,y1"):
        (tmp_path / "boxes.csv").write_text(f"{header}\nz0.tif,1,2,2,9,9\nz5.tif,1,3,3,8,8\n")
        table = read_box_files([tmp_path / "boxes.csv"], images, None)
        assert table["name"].tolist() == ["1", "1"]
        objects[header.split(",")[1]] = object_numbers(table.assign(reason="")).tolist()
    assert objects == {"label": [1, 2], "name": [1, 1]}


def test_tables_and_label_image_tell_the_same() -> None:
    rows = [row(1, 3, 0, 3), row(1, 3, 1, 4), row(1, 3, 1, 5, ended="overlap"), row(1, 3, -1, 2, iou=0.8)]
    rows += [row(1, 3, -1, 1, ended="confidence"), row(2, 4, 0, 4, x=4, iou=0.95)]
    tracks = Tracks(Prompts((IMAGE,), given(("a", 3), ("b", 4)), ()), pd.DataFrame(rows))
    slices = slices_table(tracks)
    objects = volume_table(tracks, slices, (50, 10, 20), CONFIG.flags)
    labels = np.stack([Numbers(tracks).block(z, slice(0, SIDE), slice(0, SIDE)) for z in range(DEPTH)])
    assert slices.groupby("object")["area"].sum().tolist() == [48, 16] == objects["voxels"].tolist()
    assert [(labels == number).sum() for number in (1, 2)] == [40, 16]  # the higher predicted IoU has what both hold
    assert slices["shared"].sum() == 8
    assert objects["shared"].tolist() == pytest.approx([8 / 48, 0])
    assert objects["volume_um3"].tolist() == pytest.approx([48e-5, 16e-5])
    assert objects.loc[1, ["first_slice", "last_slice", "slices"]].tolist() == [2, 4, 3]
    assert objects.loc[1, ["before_first", "after_last"]].tolist() == ["confidence in slice 1", "overlap in slice 5"]
    assert objects.loc[2, ["before_first", "after_last"]].tolist() == [EDGE, EDGE]
    assert objects["flags"].tolist() == ["ends abruptly", ""]


def test_flags_of_objects_with_two_boxes() -> None:
    rows = [row(1, 2, 0, 2), row(1, 2, 1, 3), row(1, 4, 0, 4), row(1, 4, -1, 3, x=5, iou=0.6)]
    rows += [row(2, 2, 0, 2), row(2, 6, 0, 6), row(3, 0, 0, 0, ended="empty")]
    boxes = given(("a", 2), ("a", 4), ("b", 2), ("b", 6), ("c", 0), ("", 0), ("b", 9))
    boxes["reason"] = [""] * 5 + ["has no area"] * 2
    tracks = Tracks(Prompts((IMAGE,), boxes, ()), pd.DataFrame(rows))
    objects = volume_table(tracks, slices_table(tracks), None, CONFIG.flags)
    flags = ["tracks disagree", "box skipped; gap; shares voxels", "empty", "skipped: has no area"]
    assert objects["flags"].tolist() == flags
    assert objects.loc[1, "agreement"] == pytest.approx(4 / 28)
    assert objects["volume_um3"].isna().all()
