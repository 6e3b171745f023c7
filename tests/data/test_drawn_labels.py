"""Label images of outlines agree with masks that are counted by hand, or made by another library."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile
from pycocotools import mask as coco

from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.drawn_labels import drawn_labels
from pipeline_lib.errors import DataError

IMAGES = Images({"a.png": (1, 12, 16), "b.png": (1, 8, 8)})
SQUARE = [[2, 3, 7, 3, 7, 9, 2, 9]]  # x 2 to 7, y 3 to 9


def write_coco(folder: Path, *annotations: dict[str, Any], **image: Any) -> Path:
    path = folder / "labels.json"
    content = {
        "images": [{"id": 5, "file_name": "images/a.png", "height": 12, "width": 16} | image],
        "annotations": [{"image_id": 5, "iscrowd": 0} | annotation for annotation in annotations],
    }
    path.write_text(json.dumps(content))
    return path


def test_polygons_and_run_lengths_of_coco_become_numbers(tmp_path: Path) -> None:
    mask = np.zeros((12, 16), np.uint8, order="F")
    mask[4:6, 10:15] = 1
    runs = coco.encode(mask)
    compressed = {"size": [12, 16], "counts": runs["counts"].decode()}
    labels = drawn_labels([write_coco(tmp_path, {"segmentation": SQUARE}, {"segmentation": compressed})], IMAGES)
    assert list(labels) == ["a.png"]
    assert np.argwhere(labels["a.png"] == 1).min(axis=0).tolist() == [3, 2]
    assert np.count_nonzero(labels["a.png"] == 1) == 5 * 6
    np.testing.assert_array_equal(labels["a.png"] == 2, mask)


def test_an_object_within_another_one_stays_visible(tmp_path: Path) -> None:
    inner = [[4, 5, 6, 5, 6, 7, 4, 7]]
    for order in ([SQUARE, inner], [inner, SQUARE]):
        labels = drawn_labels([write_coco(tmp_path, *({"segmentation": each} for each in order))], IMAGES)["a.png"]
        assert sorted(np.unique(labels, return_counts=True)[1][1:]) == [4, 26]


def test_fijis_regions_become_the_pixels_that_fiji_fills(tmp_path: Path) -> None:
    square = roifile.ImagejRoi.frompoints([[2, 3], [7, 3], [7, 9], [2, 9]], name="cell")
    point = roifile.ImagejRoi.frompoints([[1, 1]])
    point.roitype = roifile.ROI_TYPE.POINT
    roifile.roiwrite(tmp_path / "a.zip", [square, point])
    labels = drawn_labels([tmp_path / "a.zip"], IMAGES)["a.png"]
    expected = np.zeros((12, 16), bool)
    expected[3:9, 2:7] = True
    np.testing.assert_array_equal(labels == 1, expected)


@pytest.mark.parametrize(
    ("annotation", "image", "message"),
    [
        ({"bbox": [1, 1, 2, 2]}, {}, "annotation 0: expected a `segmentation`"),
        ({"segmentation": SQUARE}, {"height": 24}, "says that a.png has 16 × 24 pixels .* but it has 16 × 12"),
        (
            {"segmentation": SQUARE},
            {"file_name": "c.png"},
            r"expected one of the images \(a\.png, b\.png.*\), found 'c\.png'",
        ),
        ({"segmentation": SQUARE, "image_id": 7}, {}, "expected an image_id that `images` lists, found 7"),
        ({"segmentation": {"size": [2, 2], "counts": "11"}}, {}, r"run lengths for .* found \(2, 2\)|cannot be read"),
        ({"segmentation": SQUARE, "iscrowd": 1}, {}, "expected outlines of objects, found none"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path: Path, annotation: Any, image: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"labels.json: .*{message}"):
        drawn_labels([write_coco(tmp_path, annotation, **image)], IMAGES)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 broken")
    (tmp_path / "b.json").write_text('{"images": []}')
    for name in ("a.zip", "b.json"):
        with pytest.raises(DataError, match=name):
            drawn_labels([tmp_path / name], IMAGES)
