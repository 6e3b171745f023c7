"""Bad boxes are found before the model runs, named with their place, and never become masks."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipeline_lib.data.box_checks import checked_boxes
from pipeline_lib.errors import DataError

SHAPES = {"a.png": (2, 100, 200)}
GOOD = (10, 10, 30, 40)


def box_table(*boxes: Any, image: str = "a.png", z: int = 0) -> pd.DataFrame:
    rows = [{"image": image, "slice": z, **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True))} for box in boxes]
    places = [f"boxes.csv:{line}" for line in range(2, 2 + len(boxes))]
    return pd.DataFrame(rows).assign(where=places, label="", score=np.nan, skip="")


@pytest.mark.parametrize(
    ("box", "reason"),
    [
        ((30, 10, 10, 40), "ends before it begins"),
        ((10, 40, 30, 10), "ends before it begins"),
        ((10, 10, 10, 40), "has no area"),
        ((np.nan, 10, 30, 40), "a coordinate is not a number"),
        ((10, 10, np.inf, 40), "a coordinate is not a number"),
        ((200, 10, 230, 40), "lies outside the image"),
        ((10, 100, 30, 140), "lies outside the image"),
        ((-30, 10, 0, 40), "lies outside the image"),
        (GOOD, "is the same as another box"),
    ],
)
def test_a_bad_box_stops_or_is_skipped(box: tuple[float, ...], reason: str) -> None:
    table = box_table(GOOD, box, (50, 50, 60, 60))
    with pytest.raises(DataError, match=rf"1 bad boxes: boxes\.csv:3 {reason}\. Correct them, .*--on-bad-box skip"):
        checked_boxes(table, SHAPES, "stop")
    assert checked_boxes(table, SHAPES, "skip")["reason"].tolist() == ["", reason, ""]


def test_images_and_slices_that_are_not_there() -> None:
    table = pd.concat(
        [
            box_table(GOOD),
            box_table(GOOD, image="b.png"),
            box_table(GOOD, z=2),
            box_table(GOOD, z=-1),
            box_table(GOOD, z=1),
        ]
    )
    reasons = checked_boxes(table, SHAPES, "skip")["reason"].tolist()
    no_slice = "belongs to a slice that is not there"
    assert reasons == ["", "belongs to an image that is not there", no_slice, no_slice, ""]


def test_a_box_that_is_partly_in_the_image_is_good() -> None:
    assert checked_boxes(box_table((-5, -5, 30, 40), (190, 90, 220, 101)), SHAPES, "stop")["reason"].tolist() == [
        "",
        "",
    ]


def test_shares_are_told_by_a_single_box() -> None:
    with pytest.raises(DataError, match="they seem to be shares of the image"):
        checked_boxes(box_table((0.1, 0.1, 0.4, 0.6)), SHAPES, "skip")


@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        ([(z, 4, z + 2, 6) for z in range(3)], "all boxes are at most 2 pixels wide and high"),
        ([*[(z, 4, z + 2, 6) for z in range(9)], GOOD], "nearly all boxes are at most 2 pixels"),
        ([*[(z, 4, z + 2, 6) for z in range(8)], GOOD], ""),
        ([(3, 4, 5, 6), (8, 8, 9, 9)], ""),
    ],
)
def test_a_file_of_small_boxes_is_of_another_unit(boxes: list[tuple[float, ...]], says: str) -> None:
    if not says:
        assert (checked_boxes(box_table(*boxes), SHAPES, "stop")["reason"] == "").all()
        return
    with pytest.raises(DataError, match=f"boxes.csv: {says}.*micrometres"):
        checked_boxes(box_table(*boxes), SHAPES, "skip")


THREE = (GOOD, (50, 50, 60, 60), (70, 50, 80, 60))


@pytest.mark.parametrize("score", [95, -0.1, 1.01, 1.00001])
def test_many_scores_beyond_1_are_something_else(score: float) -> None:
    with pytest.raises(DataError, match=rf"boxes\.csv: expected scores from 0 to 1, found {score}"):
        checked_boxes(box_table(*THREE).assign(score=score), SHAPES, "skip")
    for rounded in 1.0, 1.0000001:
        checked_boxes(box_table(*THREE).assign(score=rounded), SHAPES, "stop")


def test_a_single_score_beyond_1_is_of_a_bad_box() -> None:
    table = box_table(*THREE).assign(score=[0.9, 1.2, 0.8])
    reason = "has a score that is not from 0 to 1"
    with pytest.raises(DataError, match=rf"1 bad boxes: boxes\.csv:3 {reason}"):
        checked_boxes(table, SHAPES, "stop")
    assert checked_boxes(table, SHAPES, "skip")["reason"].tolist() == ["", reason, ""]


@pytest.mark.parametrize(
    ("column", "values", "prompts"),
    [
        ("label", ["cell", "nucleus"], 2),
        ("score", [0.9, 0.8], 2),
        ("score", [0.9, np.nan], 2),
        ("name", ["1", "2"], 1),  # many tools number their boxes
    ],
)
def test_a_box_is_there_twice_if_all_that_is_said_of_it_is_equal(
    column: str, values: list[object], prompts: int, caplog: pytest.LogCaptureFixture
) -> None:
    table = checked_boxes(box_table(GOOD, GOOD).assign(**{column: values}), SHAPES, "skip")
    assert (table["reason"] == "").sum() == prompts
    says = "1 boxes have the corners of another box, but another class or score, such as boxes.csv:3; each is a prompt"
    assert (says in caplog.text) == (prompts == 2)


def test_what_the_file_itself_calls_no_prompt_is_skipped_with_its_reason() -> None:
    table = box_table(GOOD, GOOD, (np.nan, np.nan, np.nan, np.nan)).assign(skip=["a crowd", "", "a point"])
    assert checked_boxes(table, SHAPES, "stop")["reason"].tolist() == ["a crowd", "", "a point"]


def test_an_image_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(DataError, match=r"not there \('b\.png'\)\. The images are a\.png\. Correct"):
        checked_boxes(box_table(GOOD, image="b.png"), SHAPES, "stop")


def test_a_long_list_is_cut() -> None:
    with pytest.raises(DataError, match="and 4 more"):
        checked_boxes(box_table(GOOD, *[(10, 10, 10, 40)] * 9), SHAPES, "stop")


@pytest.mark.parametrize("on_bad_box", ["stop", "skip"])
@pytest.mark.parametrize(
    ("boxes", "says"),
    [
        ([(150, 60, 20, 30), (100, 70, 30, 20), (20, 20, 40, 40)] * 2, "seem to be x, y, width and height"),
        ([(150, 60, 320, 150), (120, 70, 290, 160), (90, 80, 250, 170)], "leave their image by more than half"),
        ([(0.1, 0.1, 0.2, 0.3), (0.4, 0.5, 0.6, 0.7), (0.5, 0.5, 0.9, 1)], "they seem to be shares of the image"),
    ],
    ids=["XYWH", "another scale", "shares"],
)
def test_a_misread_file_is_an_error_even_where_bad_boxes_are_skipped(
    boxes: list[tuple[float, ...]], says: str, on_bad_box: Any
) -> None:
    with pytest.raises(DataError, match=says):
        checked_boxes(box_table(*boxes), SHAPES, on_bad_box)


def test_few_slips_do_not_make_a_file_misread() -> None:
    slips = [(30, 10, 10, 40), (30, 10, 12, 40)]
    table = checked_boxes(box_table(*slips, *[(index, 0, index + 5, 9) for index in range(6)]), SHAPES, "skip")
    assert (table["reason"] != "").sum() == 2
