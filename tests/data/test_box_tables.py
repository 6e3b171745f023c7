"""Tables of boxes: columns, slices, dialects, and tables of Fiji and CellProfiler."""

import logging
from pathlib import Path

import pytest
from helpers.box_readers import BOX, ONE, boxes, read, skipped, table

from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.errors import DataError

EDGE = ["85,30,10,20", "30,50,10,20", "86,40,8,20"]  # boxes that leave their image unless x and y are their centres
INSIDE = ["30,20,10,20", "40,30,10,20", "50,35,10,20"]


@pytest.mark.parametrize(
    ("rows", "first", "level"),
    [
        (["0,5,10,20", "1,20,10,20", "0,2,10,20"], [0, 5, 10, 25], "INFO"),
        (EDGE, [80, 20, 90, 40], "INFO"),
        (INSIDE, [30, 20, 40, 40], "WARNING"),
        ([*INSIDE, "81,20,10,20"], [30, 20, 40, 40], "WARNING"),
        (INSIDE[:1], [30, 20, 40, 40], "WARNING"),
        (EDGE[:1] + INSIDE * 3, [85, 30, 95, 50], "WARNING"),
    ],
    ids=["at the left: a corner", "at the right: a centre", "both", "a pixel beyond", "one box", "one at the right"],
)
def test_x_and_y_are_the_corner_unless_many_boxes_leave_their_image(
    tmp_path: Path, rows: list[str], first: list[float], level: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert boxes(table(tmp_path, "x,y,width,height", *rows), ONE)[0] == first
    (record,) = [each for each in caplog.records if "x and y are" in each.message]
    assert record.levelname == level
    assert level == "INFO" or "x_center,y_center,width,height" in record.message


def test_x_and_y_that_are_neither_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.csv: 3 boxes leave .* corner, and 1 boxes if they are their centre"):
        read(table(tmp_path, "x,y,w,h", *EDGE, "0,20,10,20"))
    assert boxes(table(tmp_path, "x_center,y_center,width,height", "30,20,10,20")) == [[25, 10, 35, 30]]


def test_two_sets_of_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected one set of columns for boxes, found x0,y0,x1,y1 and xmin,ymin"):
        read(table(tmp_path, "x0,y0,x1,y1,xmin,ymin,xmax,ymax", "1,2,3,4,5,6,7,8"))
    with pytest.raises(DataError, match="the column 'x0' is there twice"):
        read(table(tmp_path, "x0,y0,x1,y1,x0", "1,2,3,4,5"))


@pytest.mark.parametrize(
    ("numbers", "expected"), [((1, 3), [0, 2]), ((0, 2), [0, 2]), ((1, 2), [1, 2])], ids=["from 1", "from 0", "both"]
)
def test_slices_are_counted_from_0_or_as_the_file_shows(
    tmp_path: Path, numbers: tuple[int, int], expected: list[int]
) -> None:
    rows = [f"stack,{z},3,5,20,{60 - z}" for z in numbers]
    assert read(table(tmp_path, "image,slice,x0,y0,x1,y1", *rows))["slice"].tolist() == expected


def test_fijis_results_have_their_own_rules(tmp_path: Path) -> None:
    path = table(tmp_path, " ,Area,X,Y,BX,BY,Width,Height", "1,9,11.5,32.5,3,5,17,55")
    assert boxes(path) == [BOX]
    path = table(tmp_path, " ,Label,BX,BY,Width,Height,Slice", "1,stack.tif:0002,3,5,17,55,2")
    assert read(path)[["image", "slice"]].to_numpy().tolist() == [["stack.tif", 1]]
    path = table(tmp_path, " ,Label,Left,Top,Width,Height,Slice", "1,stack.tif:0002,3,5,17,55,2")
    assert read(path)[["image", "slice"]].to_numpy().tolist() == [["stack.tif", 1]]
    path = table(tmp_path, "Label,BX,BY,Width,Height", "stack.tif:0002,3,5,17,55")
    with pytest.raises(DataError, match=r"a\.csv:2: stack\.tif is a stack, and the table names no slices"):
        read(path)
    path = table(tmp_path, " ,BX,BY,Width,Height", "1,0.31,0.52,1.71,5.5")
    with pytest.raises(DataError, match=r"a\.csv:2: .* BX is 0\.31\. .* remove the scale"):
        read(path)
    header = " ,Name,Type,Group,X,Y,Width,Height,Points,Color,Fill,LWidth,Pos,C,Z,T"
    rows = ["1,c,Rectangle,0,3,5,17,55,4,none,none,0,0,0,0,0", "2,p,Point,0,3,5,0,0,1,none,none,0,0,0,0,0"]
    listed = read(table(tmp_path, header, *rows))
    assert listed[XYXY].to_numpy().tolist()[0] == BOX
    assert [bool(reason) for reason in skipped(listed)] == [False, True]


def test_the_list_of_the_roi_manager_names_slices(tmp_path: Path) -> None:
    header = "Index,Name,Type,X,Y,Width,Height,Points,LWidth,Pos,C,Z,T"
    rows = ["0,c,Rectangle,3,5,17,55,4,0,2,0,0,0", "1,c,Rectangle,3,5,17,55,4,0,1,1,3,1"]
    images = Images({"a.tif": (3, 60, 90)})
    assert read(table(tmp_path, header, *rows), images=images)["slice"].tolist() == [1, 2]
    with pytest.raises(DataError, match=r"a\.csv:2: a\.tif is a stack, and the table names no slices"):
        read(table(tmp_path, header, "0,c,Rectangle,3,5,17,55,4,0,0,0,0,0"), images=images)


@pytest.mark.parametrize(
    ("labels", "images"),
    [
        (["a.png", "c.tif"], ["a.png", "c.tif"]),
        (["c.tif", "d.tif:0002"], ["c.tif", "d.tif"]),
        (["a", "cell"], ["a.png", "cell"]),
        (["0005-0012", "cell"], ["a.png", "a.png"]),
        (["a.png", ""], ["a.png", "a.png"]),
    ],
)
def test_labels_of_fiji_that_name_images_are_kept(tmp_path: Path, labels: list[str], images: list[str]) -> None:
    path = table(tmp_path, " ,Label,BX,BY,Width,Height", *(f"1,{label},3,5,17,55" for label in labels))
    assert read(path, images=ONE)["image"].tolist() == images  # the checks refuse those that are not there


@pytest.mark.parametrize("column", ["image_name", "file_name", "image_id", "image_path", "path", "filepath"])
def test_columns_that_name_images(tmp_path: Path, column: str) -> None:
    path = table(tmp_path, f"{column},x0,y0,x1,y1", "set/other.png,3,5,20,60", "a.png,3,5,20,60")
    assert read(path, images=ONE)["image"].tolist() == ["set/other.png", "a.png"]


@pytest.mark.parametrize("header", ["micrograph,x0,y0,x1,y1", "micrograph,bbox-1,bbox-0,bbox-3,bbox-2"])
def test_names_of_images_in_another_column_are_not_lost(tmp_path: Path, header: str) -> None:
    with pytest.raises(DataError, match=r"a\.csv: the column 'micrograph' names images; call it `image`"):
        read(table(tmp_path, header, "other.tif,3,5,20,60"), images=ONE)
    assert boxes(table(tmp_path, header, "day 1,3,5,20,60"), ONE) == [BOX]


def test_cellprofiler_must_name_its_images(tmp_path: Path) -> None:
    edges = ",".join(f"AreaShape_BoundingBox{edge}" for edge in ("Minimum_X", "Minimum_Y", "Maximum_X", "Maximum_Y"))
    with pytest.raises(DataError, match=r"a\.csv: ImageNumber has 2 values, but no column names the images"):
        read(table(tmp_path, f"ImageNumber,ObjectNumber,{edges}", "1,1,3,5,20,60", "2,1,3,5,20,60"))
    path = table(
        tmp_path, f"FileName_EM,ImageNumber,ObjectNumber,{edges}", "a.png,1,1,3,5,20,60", "b.png,2,1,3,5,20,60"
    )
    assert read(path)["image"].tolist() == ["a.png", "b.png"]


DIALECTS = {
    "semicolons, decimal commas": ("image;x0;y0;x1;y1\nü.png;3,5;5,0;20,0;60,0\n", "utf-8"),
    "semicolons, decimal points": ("image;x0;y0;x1;y1\nü.png;3.5;5;20;60\n", "utf-8"),
    "tabs, UTF-16": ("image\tx0\ty0\tx1\ty1\nü.png\t3.5\t5\t20\t60\n", "utf-16"),
    "tabs, decimal commas": ("image\tx0\ty0\tx1\ty1\nü.png\t3,5\t5\t20\t60\n", "utf-8-sig"),
    "Windows-1252": ("image,x0,y0,x1,y1\r\nü.png,3.5,5,20,60\r\n", "cp1252"),
    "a comment, spaces and an empty row": (
        "# v3, of today\nimage, x0, y0, x1, y1\nü.png, 3.5, 5, 20, 60\n,,,,\n",
        "utf-8",
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_tables_of_other_countries_and_systems(tmp_path: Path, dialect: str) -> None:
    text, encoding = DIALECTS[dialect]
    (tmp_path / "a.csv").write_bytes(text.encode(encoding))
    table = read(tmp_path / "a.csv", images=Images({"ü.png": (1, 60, 90), "b.png": (1, 60, 90)}))
    assert table["image"].tolist() == ["ü.png"]
    assert table[XYXY].to_numpy().tolist() == [[3.5, 5, 20, 60]]


@pytest.mark.parametrize(
    "rows", [("3,500;5,000;20,000;60,000",), ("3,5;5.5;20;60",)], ids=["thousands or decimals", "both"]
)
def test_commas_that_can_mean_two_things_are_refused(tmp_path: Path, rows: tuple[str]) -> None:
    with pytest.raises(DataError, match=r"a\.csv:2: the comma in 3,5\S* can be a decimal comma or separate thousands"):
        read(table(tmp_path, "x0;y0;x1;y1", *rows))
