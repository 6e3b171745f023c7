"""Tables in many forms are read as they were meant, or refused, and never guessed."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from pipeline_lib.data.box_checks import checked_boxes
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.table import read_box_files
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.errors import DataError

Box = tuple[float, float, float, float]
HEIGHT, WIDTH = 60, 90
SHAPES = {"a.png": (1, HEIGHT, WIDTH), "b.png": (1, HEIGHT, WIDTH)}
ONE = Images({"a.png": (1, HEIGHT, WIDTH)})
OFTEN = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
HEADERS = {
    "corners": ("x0,y0,x1,y1", "x1,y1,x2,y2", "xmin,ymin,xmax,ymax", "left,top,right,bottom"),
    "corner and size": ("x,y,width,height", "x,y,w,h", "left,top,width,height", "BX,BY,Width,Height"),
    "centre and size": ("x_center,y_center,width,height", "cx,cy,w,h"),
}


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    """Draw a box in the image, with whole numbers or halves."""
    halves = draw(st.booleans())
    x0, y0 = draw(st.integers(0, WIDTH - 6)), draw(st.integers(0, HEIGHT - 6))
    x1, y1 = draw(st.integers(x0 + 4, WIDTH - 1)), draw(st.integers(y0 + 4, HEIGHT - 1))
    return x0 + halves / 2, float(y0), float(x1), y1 + halves / 2


def numbers(box: Box, meaning: str, unit: float) -> Sequence[float]:
    x0, y0, x1, y1 = (value * unit for value in box)
    match meaning:
        case "corners":
            return x0, y0, x1, y1
        case "corner and size":
            return x0, y0, x1 - x0, y1 - y0
    return (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Box], float, bytes]:
    """Draw true boxes, the size of a pixel in the unit of the table, and the table."""
    truth = draw(st.lists(boxes(), min_size=1, max_size=6, unique=True))
    meaning = draw(st.sampled_from(sorted(HEADERS)))
    header = draw(st.sampled_from(HEADERS[meaning]))
    unit = draw(st.sampled_from([1.0, 1.0, 1.0, 0.004, 1 / WIDTH]))  # pixels, micrometres at 4 nm, shares
    places = draw(st.sampled_from([1, 3, 6]))
    mark, delimiter = draw(st.sampled_from([(".", ","), (".", ";"), (",", ";"), (".", "\t"), (",", "\t")]))
    rows = [header.split(","), *([f"{value:.{places}f}" for value in numbers(box, meaning, unit)] for box in truth)]
    if draw(st.booleans()):
        rows = [[name, *row] for name, row in zip(["image", *["a.png"] * len(truth)], rows, strict=True)]
    order = draw(st.permutations(range(len(rows[0]))))
    lines = [delimiter.join(row[index] for index in order) for row in rows]
    lines = [lines[0], *(line.replace("a.png", "\0").replace(".", mark).replace("\0", "a.png") for line in lines[1:])]
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    return truth, unit, (draw(st.sampled_from(["\n", "\r\n"])).join(lines) + "\n").encode(encoding)


@OFTEN
@given(table=tables())
def test_a_table_is_read_as_it_was_meant_or_refused(
    tmp_path_factory: pytest.TempPathFactory, table: tuple[list[Box], float, bytes]
) -> None:
    truth, unit, content = table
    path = tmp_path_factory.getbasetemp() / "a.csv"
    path.write_bytes(content)
    try:
        read = checked_boxes(read_box_files([path], Images(SHAPES), None), SHAPES, "stop")
    except DataError:
        event("refused")
        return
    event(f"read, unit {unit:.3g}")
    np.testing.assert_allclose(read[XYXY].to_numpy(), truth, atol=0.06)


PLACES = st.sampled_from(["", "a/", "b/", "a/b/", "b/a/"])
PATHS = st.builds("".join, st.tuples(PLACES, st.sampled_from(["x", "y"]), st.sampled_from([".png", ".tif"])))


@OFTEN
@given(
    names=st.lists(PATHS, min_size=1, max_size=8, unique=True),
    dropped=st.integers(0, 2),
    before=st.sampled_from(["", "/data/set/", "D:\\\\data\\\\", "./"]),
    with_suffix=st.booleans(),
)
def test_a_path_means_its_image_or_is_refused(names: list[str], dropped: int, before: str, with_suffix: bool) -> None:
    """The first image is the true one. The text lacks some of its folders, or has others in front."""
    truth = names[0]
    text = "/".join(truth.split("/")[dropped:]) or truth
    text = (before if text == truth else "") + (text if with_suffix else text.rsplit(".", 1)[0])
    try:
        found = Images(dict.fromkeys(names, (1, HEIGHT, WIDTH))).find(text)
    except DataError:
        event("refused")
        return
    event("found")
    assert found == truth or found.rsplit(".", 1)[0] == text.rsplit(".", 1)[0]  # the path of another one, in full


@settings(OFTEN, max_examples=40)
@given(truth=st.lists(boxes(), min_size=3, max_size=6, unique=True), shares=st.booleans())
def test_numbers_of_another_unit_are_refused(
    tmp_path_factory: pytest.TempPathFactory, truth: list[Box], shares: bool
) -> None:
    """The unit is micrometres, at 4 nm for a pixel, or shares of the image."""
    path = tmp_path_factory.getbasetemp() / "a.csv"
    scale = (1 / WIDTH, 1 / HEIGHT) if shares else (0.004, 0.004)
    lines = [",".join(f"{value * scale[index % 2]:.6f}" for index, value in enumerate(box)) for box in truth]
    path.write_text("\n".join(["x0,y0,x1,y1", *lines]) + "\n")
    with pytest.raises(DataError, match=r"a\.csv: all (coordinates lie between 0 and 1|boxes are at most 2 pixels)"):
        checked_boxes(read_box_files([path], ONE, None), ONE.shapes, "skip")
