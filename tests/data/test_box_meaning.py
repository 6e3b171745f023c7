"""What box files say about their images, and what their numbers mean: compared, decided by evidence, or refused."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import roifile
from helpers.box_writers import WRITERS, write, write_rows
from pycocotools import mask as coco_mask

from pipeline_lib.data.box_checks import checked_boxes
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.table import read_box_files
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.errors import DataError

SHAPES = {"a.png": (1, 60, 90), "b.png": (1, 60, 90), "stack.tif": (3, 60, 90)}
IMAGES = Images(SHAPES)
ONE = Images({"a.png": (1, 60, 90)})
BOX = [3.0, 5.0, 20.0, 60.0]


def read(*paths: Path, images: Images = IMAGES) -> pd.DataFrame:
    return read_box_files(paths, images, None)


def boxes(path: Path, images: Images = IMAGES) -> list[list[float]]:
    numbers: list[list[float]] = read(path, images=images)[XYXY].to_numpy().tolist()
    return numbers


def coco(folder: Path, images: Sequence[Mapping[str, Any]], annotation: Mapping[str, Any] | None = None) -> Path:
    note = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [3, 5, 17, 55], **(annotation or {})}
    content = {"images": images, "categories": [{"id": 1, "name": "cell"}], "annotations": [note]}
    return write(folder / "boxes.json", json.dumps(content))


@pytest.mark.parametrize(
    ("names", "ids", "says"),
    [
        (("a.png", "a.png"), (1, 2), "image 1: 'a.png' is the image a.png, and so is 'a.png' of .* image 0"),
        (("train/a.png", "val/a.png"), (1, 2), "image 1: 'val/a.png' is the image a.png, and so is 'train/a.png'"),
        (("a.png", "b.png"), (1, 1), "image 1: b.png has the id 1, and so has a.png"),
    ],
)
def test_two_entries_for_one_image_are_refused(
    tmp_path: Path, names: tuple[str, str], ids: tuple[int, int], says: str
) -> None:
    path = coco(tmp_path, [{"id": key, "file_name": name} for key, name in zip(ids, names, strict=True)])
    with pytest.raises(DataError, match=rf"boxes\.json: {says}"):
        read(path)


TWICE: dict[str, tuple[str, str]] = {
    "Label Studio": (
        "a.json",
        json.dumps(
            [{"data": {"image": f"/data/upload/{n}-a.png"}, "annotations": []} for n in ("0a1b2c3d", "1a1b2c3d")]
        ),
    ),
    "VIA": (
        "a.json",
        json.dumps({f"a.png{n}": {"filename": "a.png", "size": n, "regions": []} for n in (1, 2)}),
    ),
    "CVAT": ("a.xml", '<annotations><image id="0" name="train/a.png"/><image id="1" name="val/a.png"/></annotations>'),
}


@pytest.mark.parametrize("tool", TWICE)
def test_two_entries_for_one_image_are_refused_from_each_tool(tmp_path: Path, tool: str) -> None:
    name, text = TWICE[tool]
    with pytest.raises(
        DataError, match=rf"{name}: (task|image) 1: .* is the image a\.png, and so is .* 0\. In the file they are two"
    ):
        read(write(tmp_path / name, text))


def test_slices_of_one_image_are_not_two_images(tmp_path: Path) -> None:
    entries = [{"id": 1 + z, "file_name": "stack.tif", "slice": z} for z in range(3)]
    assert read(coco(tmp_path, entries, {"image_id": 3}))["slice"].tolist() == [2]


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ("train/a.png", "val/a.png", True),
        ("train\\a.png", "D:\\set\\val\\a.png", True),
        ("images/a.png", "/data/images/a.png", False),
        ("a.png", "val/a.png", False),
    ],
)
def test_two_folders_of_one_image_are_refused(tmp_path: Path, first: str, second: str, refused: bool) -> None:
    path = write_rows(tmp_path / "a.csv", ["image", "x0", "y0", "x1", "y1"], [(first, *BOX), (second, 1, 2, 30, 40)])
    if not refused:
        assert read(path)["image"].tolist() == ["a.png", "a.png"]
        return
    with pytest.raises(DataError, match=r"a\.csv:3: belongs to .*a\.csv:2 belongs to .*both would be the image a\.png"):
        read(path)


LABELME = {"flags": {}, "imagePath": "a.png", "imageHeight": 60, "imageWidth": 45, "shapes": []}
REGION = {"type": "rectanglelabels", "original_width": 45, "original_height": 60, "value": {}}
SIZES: dict[str, tuple[str, str]] = {
    "COCO": (
        "a.json",
        json.dumps({"images": [{"id": 1, "file_name": "a.png", "width": 45, "height": 60}], "annotations": []}),
    ),
    "VOC": (
        "a.xml",
        "<annotation><filename>a.png</filename><size><width>45</width><height>60</height></size></annotation>",
    ),
    "LabelMe on the web": (
        "a.xml",
        "<annotation><filename>a.png</filename><imagesize><nrows>60</nrows><ncols>45</ncols></imagesize></annotation>",
    ),
    "LabelMe": ("a.json", json.dumps(LABELME)),
    "Label Studio": ("a.json", json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": [REGION]}]}])),
    "CVAT": ("a.xml", '<annotations><image id="0" name="a.png" width="45" height="60"/></annotations>'),
    "Roboflow": ("a.json", json.dumps({"image": {"width": 45, "height": 60}, "predictions": []})),
    "TensorFlow": ("a.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\na.png,45,60,cell,3,5,20,40\n"),
    "make-sense": ("a.csv", "cell,3,5,17,35,a.png,45,60\n"),
}


@pytest.mark.parametrize("tool", SIZES)
def test_a_size_that_is_not_that_of_the_image_is_refused(tmp_path: Path, tool: str) -> None:
    name, text = SIZES[tool]
    says = rf"{name}.*: the file says that a\.png has 45 × 60 pixels \(width × height\), but it has 90 × 60"
    with pytest.raises(DataError, match=says):
        read(write(tmp_path / name, text))


@pytest.mark.parametrize("size", [{}, {"width": 0, "height": 0}, {"width": None, "height": None}])
def test_a_size_that_is_not_stated_is_not_compared(tmp_path: Path, size: Mapping[str, Any]) -> None:
    assert boxes(coco(tmp_path, [{"id": 1, "file_name": "a.png", **size}])) == [BOX]


RESULT = {"image_id": 1, "category_id": 1, "bbox": [3, 5, 17, 55], "score": 0.9}
DATA_SET = [{"id": 1, "file_name": "b.png"}, {"id": 2, "file_name": "a.png"}]


def test_ids_of_results_are_those_of_the_data_set_that_is_given_with_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    results = write(tmp_path / "results.bbox.json", json.dumps([RESULT, {**RESULT, "image_id": 2}]))
    truth = coco(tmp_path, DATA_SET, {"bbox": [1, 1, 5, 5]})
    with caplog.at_level(logging.INFO):
        table = read(results, truth)
    assert table["image"].tolist() == ["b.png", "a.png"]
    assert set(table["where"].str.partition(":")[0]) == {str(results)}  # the truth is no prompt
    assert "image_id: 1 is b.png, 2 is a.png" in caplog.text
    assert read(tmp_path)["image"].tolist() == ["b.png", "a.png"]


def test_ids_of_results_without_a_data_set_are_refused(tmp_path: Path) -> None:
    for called in "1.png", "000001.png", "a.png":
        path = write(tmp_path / "results.json", json.dumps([RESULT]))
        with pytest.raises(DataError, match=r"results\.json: entry 0: image_id is 1, .* Name the JSON file"):
            read(path, images=Images({called: (1, 60, 90)}))
    named = write(tmp_path / "named.json", json.dumps([{**RESULT, "file_name": "b.png"}]))
    assert read(named)["image"].tolist() == ["b.png"]


def test_ids_that_the_data_set_does_not_have_are_refused(tmp_path: Path) -> None:
    results = write(tmp_path / "results.json", json.dumps([{**RESULT, "image_id": 7}]))
    with pytest.raises(DataError, match=r"entry 0: the data set beside the list has no image with the id 7"):
        read(results, coco(tmp_path, DATA_SET))


POLYGON = [3, 5, 20, 5, 20, 60]
WHOLE = np.zeros((60, 90), np.uint8, order="F")
WHOLE[5:60, 3:20] = 1
RUNS = coco_mask.encode(WHOLE)


@pytest.mark.parametrize(
    "segmentation",
    [
        [POLYGON],
        [[*POLYGON[:4], 4, 30], [20, 60, 10, 60, 10, 50]],
        {"size": [60, 90], "counts": RUNS["counts"].decode()},
    ],
    ids=["polygon", "two polygons", "run lengths"],
)
def test_a_coco_annotation_without_a_box_has_the_bounds_of_its_outline(tmp_path: Path, segmentation: Any) -> None:
    entry = [{"id": 1, "file_name": "a.png"}]
    for box in [], [0, 0, 0, 0]:
        assert boxes(coco(tmp_path, entry, {"bbox": box, "segmentation": segmentation})) == [BOX]


def test_run_lengths_of_another_size_are_refused(tmp_path: Path) -> None:
    runs = {"size": [60, 80], "counts": RUNS["counts"].decode()}
    path = coco(tmp_path, [{"id": 1, "file_name": "a.png"}], {"bbox": [], "segmentation": runs})
    with pytest.raises(DataError, match="entry 0: the run lengths are of 80 × 60 pixels"):
        read(path)


def skipped(table: pd.DataFrame) -> list[str]:
    return checked_boxes(table, SHAPES, "stop")["reason"].tolist()


def test_what_is_no_object_is_skipped_with_its_reason(tmp_path: Path) -> None:
    crowd = coco(tmp_path, [{"id": 1, "file_name": "a.png"}], {"iscrowd": 1})
    assert skipped(read(crowd)) == ["a crowd (iscrowd), which is not one object"]
    shapes = [
        {"label": "cell", "shape_type": "circle", "points": [[30, 30], [34, 33]]},
        {"label": "tip", "shape_type": "point", "points": [[3, 4]]},
        {"label": "edge", "shape_type": "linestrip", "points": [[3, 4], [30, 40]]},
    ]
    labelme = read(write(tmp_path / "a.json", json.dumps({**LABELME, "imageWidth": 90, "shapes": shapes})))
    assert labelme[XYXY].to_numpy()[0].tolist() == [25, 25, 35, 35]
    assert [reason[:25] for reason in skipped(labelme)] == [
        "",
        "a shape of the type point",
        "a shape of the type lines",
    ]
    inner = (
        '<ellipse label="cell" cx="30" cy="30" rx="10" ry="5" rotation="90"/><points label="tip" points="3,4"/>'
        '<box label="cell" xtl="10" ytl="20" xbr="30" ybr="30" rotation="90"/><mask label="c" left="1" top="2" '
        'width="30" height="40" rle="1"/><polygon label="c" points="3,5;20,5;20,60"/><tag label="blurred"/>'
    )
    cvat = read(write(tmp_path / "a.xml", f'<annotations><image id="0" name="a.png">{inner}</image></annotations>'))
    assert [reason[:26] for reason in skipped(cvat)] == ["", "a shape of the type points", "", "", ""]
    expected = [[25, 20, 35, 40], [np.nan] * 4, [15, 15, 25, 35], [1, 2, 31, 42], BOX]
    np.testing.assert_allclose(cvat[XYXY].to_numpy(), expected, atol=1e-9)


def test_regions_of_fiji_are_read_by_type(tmp_path: Path) -> None:
    rois = [
        roifile.ImagejRoi(roitype=roifile.ROI_TYPE.OVAL, left=3, top=5, right=20, bottom=60, name="cell", position=1),
        roifile.ImagejRoi.frompoints([[4, 5], [6, 7]]),
        roifile.ImagejRoi(roitype=roifile.ROI_TYPE.RECT, left=3, top=5, right=20, bottom=60, t_position=2),
    ]
    rois[1].roitype = roifile.ROI_TYPE.POINT
    roifile.roiwrite(tmp_path / "stack.zip", rois)
    table = read(tmp_path / "stack.zip")
    assert [reason[:28] for reason in skipped(table)] == ["", "a region of the type POINT e", ""]
    assert table["slice"].tolist() == [0, 0, 1]


VIA_SHAPES = [
    ({"name": "circle", "cx": 30, "cy": 30, "r": 5}, [25, 25, 35, 35]),
    ({"name": "ellipse", "cx": 30, "cy": 30, "rx": 10, "ry": 5, "theta": np.pi / 2}, [25, 20, 35, 40]),
    ({"name": "polygon", "all_points_x": [3, 20, 20], "all_points_y": [5, 5, 60]}, BOX),
    ({"name": "point", "cx": 3, "cy": 4}, None),
]


@pytest.mark.parametrize(("shape", "expected"), VIA_SHAPES)
def test_regions_of_via(tmp_path: Path, shape: Mapping[str, Any], expected: list[float] | None) -> None:
    region = {"shape_attributes": shape, "region_attributes": {"class": "cell"}}
    content = {"a.png1": {"filename": "a.png", "size": 1, "regions": {"0": region}, "file_attributes": {}}}
    table = read(write(tmp_path / "a.json", json.dumps(content)))
    assert (skipped(table) == [""]) == (expected is not None)
    if expected:
        np.testing.assert_allclose(table[XYXY].to_numpy()[0], expected, atol=1e-9)


def task(*values: Mapping[str, Any], **more: Any) -> list[dict[str, Any]]:
    sides = {"original_width": 90, "original_height": 60}
    results = [{"id": str(number), "type": "x", **sides, "value": value} for number, value in enumerate(values)]
    return [{"id": 1, "data": {"image": "a.png"}, "annotations": [{"result": results}], **more}]


def test_regions_of_label_studio(tmp_path: Path) -> None:
    rectangle = {"x": 50, "y": 50, "width": 10, "height": 10, "rotation": 90, "rectanglelabels": ["cell"]}
    ellipse = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 10, "rotation": 0}
    polygon = {"points": [[10, 10], [20, 10], [20, 50]]}
    brush = {"format": "rle", "rle": [1, 2], "brushlabels": ["cell"]}
    table = read(write(tmp_path / "a.json", json.dumps(task(rectangle, ellipse, polygon, brush))))
    expected = [[39, 30, 45, 39], [36, 24, 54, 36], [9, 6, 18, 30], [np.nan] * 4]
    np.testing.assert_allclose(table[XYXY].to_numpy(), expected, atol=1e-9)
    assert [bool(reason) for reason in skipped(table)] == [False, False, False, True]
    two = write(tmp_path / "two.json", json.dumps(task(ellipse, annotations=[{"result": []}, {"result": []}])))
    with pytest.raises(DataError, match=r"two\.json: task 0: expected one annotation of the task, found 2"):
        read(two)


def test_a_region_of_label_studio_with_separate_tags_is_one_box(tmp_path: Path) -> None:
    place = {"x": 10, "y": 10, "width": 50, "height": 50}
    (content,) = task(place, {**place, "labels": ["cell"]})
    for result in content["annotations"][0]["result"]:
        result["id"] = "same"
    (row,) = read(write(tmp_path / "a.json", json.dumps([content]))).to_dict("records")
    assert row["label"] == "cell"


@pytest.mark.parametrize(
    ("corners", "expected"),
    [
        ([(4, 6, 20, 60), (1, 1, 9, 9)], BOX),
        ([(3, 5, 20, 60), (0, 1, 9, 9)], BOX),
        ([(3, 5, 20, 60), (1.5, 1, 9, 9)], BOX),
    ],
    ids=["counted from 1", "counted from 0, as one lies at 0", "from 0, as one has a fraction"],
)
def test_corners_of_voc_are_counted_as_the_file_shows(
    tmp_path: Path, corners: list[tuple[float, ...]], expected: list[float]
) -> None:
    edges = ("xmin", "ymin", "xmax", "ymax")
    objects = "".join(
        f"<object><bndbox>{''.join(f'<{e}>{v}</{e}>' for e, v in zip(edges, box, strict=True))}</bndbox></object>"
        for box in corners
    )
    path = write(tmp_path / "a.xml", f"<annotation><filename>a.png</filename>{objects}</annotation>")
    assert boxes(path)[0] == expected


def table(folder: Path, header: str, *rows: str) -> Path:
    return write(folder / "a.csv", "\n".join([header, *rows]) + "\n")


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
    (said,) = [record for record in caplog.records if "x and y are" in record.message]
    assert said.levelname == level
    assert level == "INFO" or "x_center,y_center,width,height" in said.message


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


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 0.1 0.1 0.2 0.1 0.2 0.5 0.1 0.5", [9, 6, 18, 30]),
        ("0 0.1 0.1 0.2 0.1 0.2 0.5 0.1 0.5 0.75", [9, 6, 18, 30]),
        ("0 0.1 0.1 0.2 0.1 0.2 0.5", [9, 6, 18, 30]),
    ],
    ids=["an oriented box", "with a score", "a triangle"],
)
def test_points_of_yolo_become_the_box_around_them(tmp_path: Path, line: str, expected: list[float]) -> None:
    table = read(write(tmp_path / "a.txt", line))
    np.testing.assert_allclose(table[XYXY].to_numpy()[0], expected)
    assert table["score"].notna().tolist() == [line.endswith("0.75")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("0 0.5 0.5 0.1 0.1 7", "found 7, which seems to be the number of a track"),
        ("0 0.5 0.5 0.1 0.1 0.9 1", "a box with a score and the number of a track"),
        ("0 0.5 0.5 0.1 0.1 " + "0.5 0.5 2 " * 17, "a box with keypoints"),
        ("0 0.5 0.5 0.1 0.1 " + "0.5 0.5 1 0.4 0.4 0 ", "a box with keypoints"),
    ],
)
def test_lines_of_yolo_that_are_no_outlines_are_refused(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(DataError, match=rf"a\.txt:1: .*{says}"):
        read(write(tmp_path / "a.txt", line))


POSES = ["0 0.5 0.5 0.1 0.1 0.48 0.5 0.52 0.5 0.5 0.53", "0 0.2 0.6 0.1 0.2 0.2 0.55 0 0 0.21 0.65"]
POLYGONS = ["0 0.5 0.5 0.52 0.5 0.52 0.54 0.5 0.54 0.49 0.52", "0 0.2 0.6 0.25 0.6 0.25 0.65 0.22 0.66 0.2 0.62"]


@pytest.mark.parametrize(
    ("lines", "record", "refused"),
    [(POSES, "", True), (POLYGONS, "", False), (POLYGONS, "names: [cell]\nkpt_shape: [3, 2]\n", True)],
    ids=["poses", "polygons", "said by the data set"],
)
def test_keypoints_of_two_numbers_are_no_polygons(
    tmp_path: Path, lines: Sequence[str], record: str, refused: bool
) -> None:
    path = write(tmp_path / "a.txt", "\n".join(lines))
    if record:
        write(tmp_path / "data.yaml", record)
    if not refused:
        assert len(read(path)) == 2
        return
    with pytest.raises(DataError, match=r"a\.txt: .*found boxes with keypoints \(poses\)\. Export the boxes alone"):
        read(path)


REGIONS_3: list[tuple[list[float], list[float] | None]] = [
    ([2, 3, 5, 17, 55], BOX),
    ([3, 20, 30, 10], [10, 20, 30, 40]),
    ([4, 20, 30, 5, 10], [15, 20, 25, 40]),
    ([7, 3, 5, 20, 5, 20, 60], BOX),
    ([8, 3, 9, 9, 5, 20, 9, 9, 60], BOX),
    ([1, 3, 5], None),
    ([5, 3, 5, 9, 9], None),
    ([9, 3, 5, 9, 9, 4, 8], None),
]


@pytest.mark.parametrize(("region", "expected"), REGIONS_3)
def test_regions_of_via_3(tmp_path: Path, region: list[float], expected: list[float] | None) -> None:
    project = json.loads(WRITERS["via_3"](tmp_path, "a.png", (60, 90), [(0, 0, 1, 1)]).read_text())
    project["metadata"]["1_0"]["xy"] = region
    (row,) = read(write(tmp_path / "a.json", json.dumps(project))).to_dict("records")
    if expected:
        assert [row[edge] for edge in XYXY] == expected
    assert bool(row["skip"]) == (expected is None)


@pytest.mark.parametrize("change", [{"fid_list": [1, 1]}, {"type": 4}])
def test_a_view_of_via_3_is_one_image(tmp_path: Path, change: Mapping[str, Any]) -> None:
    project = json.loads(WRITERS["via_3"](tmp_path, "a.png", (60, 90), [(0, 0, 1, 1)]).read_text())
    (project["view"] if "fid_list" in change else project["file"])["1"] |= change
    with pytest.raises(DataError, match=r"a\.json: view 0: expected a view of one image; export"):
        read(write(tmp_path / "a.json", json.dumps(project)))


def video(folder: Path, first: int = 0, kept: str = "", frames: int = 3) -> Path:
    shapes = '<box frame="1" keyframe="1" outside="0" xtl="3" ytl="5" xbr="20" ybr="60"/><box frame="2" outside="1"/>'
    task = f"<size>{frames}</size><start_frame>{first}</start_frame><frame_filter>{kept}</frame_filter>"
    track = f'<track id="7" label="cell">{shapes}</track>'
    return write(folder / "stack.xml", f"<annotations><meta><task>{task}</task></meta>{track}</annotations>")


def test_frames_of_a_video_of_cvat_are_slices(tmp_path: Path) -> None:
    table = read(video(tmp_path))
    assert table[["image", "slice", "track"]].to_numpy().tolist() == [["stack.tif", 1, "7"]]
    assert table[XYXY].to_numpy()[0].tolist() == BOX
    assert table["skip"].tolist() == [""]  # the object is not in frame 2


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ({"first": 10}, "the task begins at frame 10"),
        ({"kept": "step=5"}, "keeps the frames step=5"),
        ({"frames": 4}, r"expected as many frames as stack\.tif has slices, 3; found 4"),
    ],
)
def test_frames_that_are_not_the_slices_are_refused(tmp_path: Path, task: Mapping[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=rf"stack\.xml: .*{says}"):
        read(video(tmp_path, **task))
    with pytest.raises(DataError, match=r"stack\.xml: the frames of a video must be the slices of one stack"):
        read(video(tmp_path), images=Images({"1.png": (1, 9, 9), "2.png": (1, 9, 9)}))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "nucleus\ncell\n"),
        ("../obj.names", "nucleus\ncell"),
        ("../../data.yaml", "names: [nucleus, cell]\n"),
        ("../../dataset.yaml", "names:\n  0: nucleus\n  1: cell\n"),
    ],
)
def test_names_of_classes_are_found_in_the_usual_places(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path / "labels/train/a.txt", "1 0.5 0.5 0.1 0.1\n")
    write((tmp_path / "labels/train" / name).resolve(), text)
    assert read(tmp_path / "labels/train")["label"].tolist() == ["cell"]


def test_damaged_names_of_classes_are_named(tmp_path: Path) -> None:
    write(tmp_path / "data.yaml", "names: 3\n")
    with pytest.raises(DataError, match=r"data\.yaml: expected the key `names`, a list of classes"):
        read(write(tmp_path / "a.txt", "1 0.5 0.5 0.1 0.1\n"))


def test_every_file_contributes_or_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "a.txt", "1 0.5 0.5 0.1 0.1\n")
    write(tmp_path / "b.txt", "")
    write(tmp_path / "notes.docx", "something")
    with caplog.at_level(logging.INFO):
        assert len(read(tmp_path)) == 1
    assert "No boxes in 1 of 2 files" in caplog.text
    assert "b.txt" in caplog.text
    assert "reads no boxes of 1 .docx there" in caplog.text
    assert f"{tmp_path / 'a.txt'}: 1 boxes of a.png" in caplog.text


@pytest.mark.parametrize(
    ("planes", "slices"),
    [
        ([{"c": -1, "z": 2, "t": 0}, None], [2, 0]),
        ([{"c": -1, "z": 0, "t": 1}, {"c": -1, "z": 0, "t": 2}], [1, 2]),
    ],
)
def test_planes_of_qupath_are_slices(tmp_path: Path, planes: list[dict[str, int] | None], slices: list[int]) -> None:
    outline = {"type": "Polygon", "coordinates": [[[3, 5], [20, 5], [20, 60], [3, 5]]]}
    features = [{"type": "Feature", "geometry": {**outline, **({"plane": plane} if plane else {})}} for plane in planes]
    assert read(write(tmp_path / "stack.geojson", json.dumps(features)))["slice"].tolist() == slices
    with pytest.raises(DataError, match=r"feature 0: expected the number of a slice, because stack\.tif has 3"):
        read(write(tmp_path / "stack.geojson", json.dumps([{"type": "Feature", "geometry": outline}])))


def test_a_feature_without_geometry_is_skipped_with_its_reason(tmp_path: Path) -> None:
    path = write(tmp_path / "a.geojson", json.dumps([{"type": "Feature", "geometry": None, "properties": {}}]))
    assert skipped(read(path)) == ["a feature without geometry encloses no area"]


def test_addresses_of_label_studio_can_be_encoded(tmp_path: Path) -> None:
    content = task({"x": 10, "y": 10, "width": 50, "height": 50})
    for address in "/data/local-files/?d=set/a%20b.png", "/data/upload/1/0a1b2c3d-a%20b.png":
        content[0]["data"]["image"] = address
        path = write(tmp_path / "boxes.json", json.dumps(content))
        assert read(path, images=Images({"a b.png": (1, 60, 90), "c.png": (1, 60, 90)}))["image"].tolist() == [
            "a b.png"
        ]


def test_geojson_may_be_called_json_and_has_lines(tmp_path: Path) -> None:
    outline = {"type": "Polygon", "coordinates": [[[3, 5], [20, 5], [20, 60], [3, 5]]]}
    line = {"type": "LineString", "coordinates": [[3, 5], [20, 60]]}
    features = [{"type": "Feature", "geometry": each, "properties": {}} for each in (outline, line)]
    table = read(write(tmp_path / "a.json", json.dumps(features)))
    assert table[XYXY].to_numpy().tolist()[0] == BOX
    assert skipped(table) == ["", "a LineString encloses no area"]
