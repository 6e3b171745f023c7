"""Box files must agree with their images: names, folders, sizes, slices and ids."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.box_readers import BOX, LABELME, boxes, coco, read
from helpers.box_writers import write, write_rows

from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.errors import DataError


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
