"""Files of boxes: what the numbers of each tool mean, how formats are recognised, and what errors say."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.box_writers import WRITERS, write, write_rows

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.table import FORMATS, read_box_files
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.errors import DataError

IMAGES = Images({"a.png": (1, 60, 90), "b.tif": (3, 40, 50)})
BOXES = [(0, 0, 1, 1), (3, 5, 20, 60), (70, 2, 90, 59)]


def read(*paths: Path, images: Images = IMAGES, form: str | None = None) -> Sequence[Sequence[float]]:
    return read_box_files(paths, images, form)[XYXY].to_numpy().tolist()


LABELME = {"version": "5.5.0", "flags": {}, "shapes": [], "imagePath": "a.png", "imageData": None, "imageHeight": 60}
RECOGNISED = [  # files that LooseBox cannot read: name, content and title of the format
    ("a.json", json.dumps({"description": "", "tags": [], "size": {}, "objects": []}), "Supervisely"),
    ("a.json", json.dumps({"asset": {"name": "a.png"}, "regions": [], "version": "2.2.0"}), "VoTT"),
]


def formats_that_match(path: Path) -> list[str]:
    """Return the titles of the formats that match a file, among those with its suffix."""
    file = BoxFile(path)
    return [each.title for each in FORMATS if path.suffix in each.suffixes and each.matches(file)]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a file or folder of each tool with `BOXES`, and return the paths by format."""
    folder = tmp_path_factory.mktemp("samples")
    return {form: write_sample(folder / form, "a.png", (60, 90), BOXES) for form, write_sample in WRITERS.items()}


def files_of(sample: Path) -> list[Path]:
    return [sample] if sample.is_file() else list(sample.glob("a.*"))


@pytest.mark.parametrize("form", WRITERS)
def test_a_file_of_each_tool_matches_one_format_only(samples: dict[str, Path], form: str) -> None:
    for file in files_of(samples[form]):
        assert len(formats_that_match(file)) == 1


@pytest.mark.parametrize(("name", "text", "title"), RECOGNISED)
def test_a_format_that_cannot_be_read_is_recognised(tmp_path: Path, name: str, text: str, title: str) -> None:
    path = write(tmp_path / name, text)
    assert formats_that_match(path) == [title]
    with pytest.raises(
        DataError, match=rf"a\.\w+: this is a {title} file, which LooseBox cannot read yet; export .* from {title}"
    ):
        read(path)


def test_every_format_has_a_sample_here(samples: dict[str, Path]) -> None:
    files = [file for sample in samples.values() for file in files_of(sample)]
    titles = {title for file in files for title in formats_that_match(file)} | {title for _, _, title in RECOGNISED}
    assert titles == {each.title for each in FORMATS}


def test_a_format_can_be_chosen_for_any_suffix_but_not_for_other_content(tmp_path: Path) -> None:
    path = write(tmp_path / "a.boxes", '[{"image_id": "a", "bbox": [1, 2, 3, 4]}]')
    assert read(path, form="coco") == [[1, 2, 4, 6]]
    labelme = write(tmp_path / "a.json", json.dumps(LABELME))
    with pytest.raises(
        DataError, match=r"does not have the format coco.*found.*keys version, flags.*Leave out --format coco"
    ):
        read(labelme, form="coco")


@pytest.mark.parametrize("form", WRITERS)
def test_a_box_is_the_same_from_each_tool(samples: dict[str, Path], form: str) -> None:
    table = read_box_files([samples[form]], IMAGES, None)
    np.testing.assert_allclose(table[XYXY].to_numpy(), BOXES, atol=1e-9)
    assert set(table["image"]) == {"a.png"}
    assert table["where"].is_unique
    assert all(str(samples[form].parent) in where for where in table["where"])


@pytest.mark.parametrize(
    "form",
    [
        "coco",
        "yolo",
        "voc",
        "geojson",
        "polygons",
        "labelme",
        "label_studio",
        "label_studio_csv",
        "via",
        "via_csv",
        "via_3",
        "cvat",
        "cvat_video",
        "roboflow",
    ],
)
def test_class_names_are_kept(samples: dict[str, Path], form: str) -> None:
    assert set(read_box_files([samples[form]], IMAGES, None)["label"]) == {"cell"}


def test_scores_are_kept(tmp_path: Path) -> None:
    yolo = write(tmp_path / "yolo/a.txt", "7 0.5 0.5 0.1 0.1 0.75\n\n2 0.5 0.5 0.2 0.2\n")
    table = read_box_files([yolo], IMAGES, None)
    assert table["score"].tolist() == [0.75, pytest.approx(np.nan, nan_ok=True)]
    assert table["label"].tolist() == ["7", "2"]
    assert table["where"].tolist() == [f"{yolo}:1", f"{yolo}:3"]


@pytest.mark.parametrize(
    ("called", "name"),
    [("17", "17.png"), ("000017", "000017.png"), ("images/x.jpg", "x.png")],
)
def test_a_detectors_result_finds_its_image(tmp_path: Path, called: object, name: str) -> None:
    path = write(tmp_path / "results.json", json.dumps([{"image_id": called, "bbox": [1, 2, 3, 4]}]))
    assert read_box_files([path], Images({name: (1, 9, 9), "0.png": (1, 9, 9)}), None)["image"].tolist() == [name]


def test_a_file_without_a_name_for_its_image_is_of_the_only_one(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "anything.csv", ["x0", "y0", "x1", "y1"], [(1, 2, 3, 4)])
    assert read_box_files([path], Images({"whole.tif": (1, 9, 9)}), None)["image"].tolist() == ["whole.tif"]
    assert read_box_files([path], IMAGES, None)["image"].tolist() == ["anything"]  # which the checks then refuse


def test_a_name_that_two_images_have_is_an_error(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "boxes.csv", ["image", "x0", "y0", "x1", "y1"], [("a", 1, 2, 3, 4)])
    with pytest.raises(DataError, match=r"boxes\.csv.*'a' fits several images: a\.png, a\.tif"):
        read(path, images=Images({"a.png": (1, 9, 9), "a.tif": (1, 9, 9)}))


def test_slices_of_a_stack_are_counted_from_0(tmp_path: Path) -> None:
    columns = ["file", "z", "left", "top", "width", "height", "category", "confidence", "id"]
    path = write_rows(tmp_path / "boxes.csv", columns, [("b", 2, 1, 2, 3, 4, "axon", 0.25, "first")])
    (row,) = read_box_files([path], IMAGES, None).to_dict("records")
    assert row == {
        "image": "b.tif",
        "slice": 2,
        **dict(zip(XYXY, (1, 2, 4, 6), strict=True)),
        "where": f"{path}:2",
        "name": "first",
        "track": "first",
        "label": "axon",
        "score": 0.25,
        "called": "b",
        "skip": "",
    }


def test_a_folder_is_read_in_the_order_of_its_names(tmp_path: Path) -> None:
    for name in "b", "a":
        write(tmp_path / f"{name}.txt", "0 0.5 0.5 0.5 0.5\n")
    write(tmp_path / "classes.txt", "cell")
    table = read_box_files([tmp_path], Images({"a.png": (1, 9, 9), "b.tif": (1, 9, 9)}), None)
    assert table["image"].tolist() == ["a.png", "b.tif"]


@pytest.mark.parametrize(("name", "text"), [("b.txt", "0 0.5 0.5 0.5 0.5"), ("b.csv", "x0,y0,x1,y1\n1,2,3,4\n")])
def test_a_box_of_a_stack_needs_a_slice(tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path / name, text)
    with pytest.raises(
        DataError, match=rf"{name}:\d: expected the number of a slice, because b\.tif has 3 slices; found none"
    ):
        read_box_files([path], Images({"b.tif": (3, 9, 9)}), None)


def test_a_file_of_a_slice_stands_for_the_slice(tmp_path: Path) -> None:
    images = Images({"stack": (2, 10, 20)}, slices={"z7.png": 0, "z8.png": 1})
    boxes = [
        write(tmp_path / "z8.txt", "0 0.5 0.5 0.5 0.5"),
        write(tmp_path / "a.csv", "image,x0,y0,x1,y1\nz7.png,1,2,3,4\n"),
    ]
    table = pd.concat([read_box_files([path], images, None) for path in boxes])
    assert table["image"].tolist() == ["stack", "stack"]
    assert table["slice"].tolist() == [1, 0]
    assert table[XYXY].to_numpy().tolist() == [[5, 2.5, 15, 7.5], [1, 2, 3, 4]]
    twice = write(tmp_path / "b.csv", "image,slice,x0,y0,x1,y1\nz7.png,1,1,2,3,4\n")
    with pytest.raises(
        DataError, match=r"b\.csv:2: expected the file or the number of a slice, found both, z7\.png and"
    ):
        read_box_files([twice], images, None)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "{", r"cannot be read as JSON \(Expecting .* Export it again"),
        ("a.json", '{"images": []}', r"found a JSON object with the keys images\. .*COCO data set \(.*COCO results \("),
        ("a.json", '[{"a": 1}]', "found a JSON list whose first entry has the keys a"),
        ("a.json", "3", "found the JSON value 3"),
        ("a.json", '[{"image_id": "a"}]', "expected the key 'bbox'"),
        ("a.json", '[{"image_id": "a", "bbox": [1, 2, 3]}]', "cannot be read as boxes"),
        ("a.json", "[]", "expected at least one box"),
        ("a.txt", "0 0.1 0.2 0.3", r"a\.txt:1: expected class, centre"),
        ("a.txt", "0 10 20 30 40", r"a\.txt:1: expected shares of the image's sides"),
        ("a.txt", "no boxes", "found a first line 'no boxes'"),
        ("a.xml", "<annotation>", "cannot be read as XML"),
        ("a.xml", "<a/>", "found the XML element <a>. .*Formats: Pascal VOC"),
        (
            "a.csv",
            "image,a,b,c,d\n",
            r"found the columns image, a, b, c, d in line 1\. Export .*image,x0,y0,x1,y1\. Formats: CSV",
        ),
        ("a.csv", "x0,y0,x1,y1,slice\n1,2,3,4,first\n", r"a\.csv:2: expected the number of a slice, found 'first'"),
        ("a.zip", "no archive", "found a file that begins with the bytes b'no a'"),
        ("a.zip", "PK, but no archive", "cannot be read as boxes"),
        ("a.roi", "no region", "Formats: Fiji regions"),
        ("a.geojson", '{"type": "Feature"}', "expected the key 'geometry'"),
        ("a.docx", "", r"no format of boxes has the suffix '\.docx'; expected one of \.csv"),
    ],
)
def test_a_file_that_is_no_file_of_boxes_is_named(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        read(write(tmp_path / name, text))
    assert str(tmp_path / name) in str(caught.value)


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(DataError, match="holds no file of boxes"):
        read(tmp_path)


NAMES = Images(
    {
        "scan_1.png": (1, 9, 9),
        "scan_1.5.tif": (1, 9, 9),
        "a.png": (1, 9, 9),
        "a.tif": (1, 9, 9),
        "zu\u0308.png": (1, 9, 9),
        "cells.ome.tif": (1, 9, 9),
        "axons.ome.zarr": (1, 9, 9),
    }
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("scan_1", "scan_1.png"),
        ("scan_1.5", "scan_1.5.tif"),
        ("scan_1.6", "scan_1.6"),  # there is none
        ("folder/a.png", "a.png"),
        ("C:\\data\\a.tif", "a.tif"),
        ("scan_1.jpg", "scan_1.png"),
        ("cells", "cells.ome.tif"),
        ("cells.tif", "cells.ome.tif"),
        ("cells.ome", "cells.ome.tif"),
        ("axons", "axons.ome.zarr"),
        ("z\u00fc", "zu\u0308.png"),  # composed, and as macOS writes it
    ],
)
def test_a_name_means_one_image(text: str, name: str) -> None:
    assert NAMES.find(text) == name


def test_two_files_are_not_both_of_the_only_image(tmp_path: Path) -> None:
    for name in "a", "b":
        write(tmp_path / f"{name}.txt", "\ufeff0 0.5 0.5 0.5 0.5\n")
    table = read_box_files([tmp_path], Images({"a.png": (1, 9, 9)}), None)
    assert table["image"].tolist() == ["a.png", "b"]
    assert set(table["label"]) == {"0"}


def test_voc_is_read_in_its_own_encoding(tmp_path: Path) -> None:
    text = (
        '<?xml version="1.0" encoding="ISO-8859-1"?><annotation><filename>a.png</filename>'
        "<object><name>Z\u00e4hne</name>"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object></annotation>"
    )
    (tmp_path / "a.xml").write_bytes(text.encode("iso-8859-1"))
    assert read_box_files([tmp_path / "a.xml"], IMAGES, None)["label"].tolist() == ["Z\u00e4hne"]
