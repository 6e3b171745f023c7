"""Outputs of masks are opened with the libraries that other programs use."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import roifile
import shapely
import yaml
from helpers.running import ROOT
from numpy.typing import NDArray
from pycocotools.coco import COCO
from shapely.geometry import shape as as_shape

from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.table import read_box_files
from pipeline_lib.data.drawn_labels import drawn_labels
from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.instances import Instances
from pipeline_lib.data.mask_formats.coco import write_coco_polygons
from pipeline_lib.data.mask_formats.file_names import image_files
from pipeline_lib.data.mask_formats.geojson import write_geojson
from pipeline_lib.data.mask_formats.mask_format import MaskSet
from pipeline_lib.data.mask_formats.rois import LARGEST, write_rois
from pipeline_lib.data.mask_formats.yolo import write_yolo
from pipeline_lib.data.masks import Mask, to_rle
from pipeline_lib.data.prompts import PlacedWindow, Prompts
from pipeline_lib.errors import DataError

HEIGHT, WIDTH = 30, 40
IMAGEJ, OPEN_ROIS = Path("/usr/share/java/ij.jar"), ROOT / "tests/helpers/OpenRois.java"
IMAGES = (
    ImageFile("a.tif", "a.tif", (1, HEIGHT, WIDTH), None, ""),
    ImageFile("stack.tif", "stack.tif", (3, HEIGHT, WIDTH), None, ""),
    ImageFile("no objects.tif", "no objects.tif", (1, HEIGHT, WIDTH), None, ""),
)


def rectangle(y0: int, y1: int, x0: int, x1: int) -> Mask:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = True
    return mask


SOLID = rectangle(2, 12, 3, 18)
RING = rectangle(14, 28, 20, 34) & ~rectangle(17, 25, 23, 31)
PARTS = rectangle(5, 9, 0, 10) | rectangle(20, 30, 30, 40)
OBJECTS = {  # image, slice, class and mask by number
    1: ("a.tif", 0, "cell", SOLID),
    2: ("a.tif", 0, "a/b", RING),
    3: ("stack.tif", 1, "", PARTS),
    4: ("a.tif", 0, "cell", rectangle(0, 0, 0, 0)),
}


@pytest.fixture
def masks() -> MaskSet:
    places = [(image.name, z) for image in IMAGES for z in range(image.shape[0])]
    windows = tuple(PlacedWindow(name, z, 0, 0, WIDTH) for name, z in places)
    rows = [
        {"window": places.index((image, z)), "box": number, "mask": to_rle(mask), "predicted_iou": 0.9, "output": True}
        for number, (image, z, _, mask) in OBJECTS.items()
    ]
    boxes = pd.DataFrame(
        [(image, z, label, np.nan) for image, z, label, _ in OBJECTS.values()],
        columns=["image", "slice", "label", "score"],
        index=OBJECTS,
    )
    return MaskSet(Instances.of(Prompts(IMAGES, boxes, windows), pd.DataFrame(rows)), lambda *_: SOLID, None)


def test_files_are_named_like_their_images(tmp_path: Path) -> None:
    names = ["a.png", "b.png", "b.tif", "folder/a.png", "c.ome.tif"]
    files = image_files(tmp_path / "out", names, ".zip")
    assert [str(file.relative_to(tmp_path / "out")) for file in files.values()] == [
        "a.zip",
        "b.png.zip",
        "b.tif.zip",
        "folder/a.zip",
        "c.ome.zip",
    ]
    assert (tmp_path / "out/folder").is_dir()


def pixels_in(polygon: shapely.Geometry) -> NDArray[np.bool_]:
    y, x = np.indices((HEIGHT, WIDTH))
    return np.asarray(shapely.contains_xy(polygon, x + 0.5, y + 0.5))


def test_geojson_holds_the_masks(masks: MaskSet, tmp_path: Path) -> None:
    write_geojson(masks, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
        "a.geojson",
        "no objects.geojson",
        "stack.geojson",
    ]
    features = {}
    for file in (tmp_path / "out").iterdir():
        collection = json.loads(file.read_text())
        shapely.from_geojson(file.read_text())  # GEOS' own parser takes the file, too
        features |= {int(each["properties"]["name"]): each for each in collection["features"]}
    assert sorted(features) == [1, 2, 3]
    for number, feature in features.items():
        polygon = as_shape(feature["geometry"])
        assert polygon.is_valid
        np.testing.assert_array_equal(pixels_in(polygon), OBJECTS[number][3])
    assert features[2]["properties"]["classification"] == {"name": "a/b"}
    assert "classification" not in features[3]["properties"]
    assert features[1]["properties"]["measurements"] == {"Predicted IoU": 0.9}
    assert "plane" not in features[1]["geometry"]
    assert features[3]["geometry"]["plane"] == {"c": -1, "z": 1, "t": 0}


def test_rois_hold_the_masks(masks: MaskSet, tmp_path: Path) -> None:
    write_rois(masks, tmp_path / "out")
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.zip", "stack.zip"]
    solid, ring = roifile.roiread(tmp_path / "out/a.zip")
    (parts,) = roifile.roiread(tmp_path / "out/stack.zip")
    assert [roi.name for roi in (solid, ring, parts)] == ["1 cell", "2 a_b", "3"]
    assert [roi.position for roi in (solid, ring, parts)] == [0, 0, 2]
    assert [roi.composite for roi in (solid, ring, parts)] == [False, True, True]
    for roi, number in ((solid, 1), (ring, 2), (parts, 3)):
        filled = np.zeros((HEIGHT, WIDTH), bool)
        for outline in roi.coordinates(multi=True):
            filled ^= pixels_in(shapely.Polygon(outline))
        np.testing.assert_array_equal(filled, OBJECTS[number][3])


@pytest.mark.skipif(not (IMAGEJ.exists() and shutil.which("javac")), reason="ImageJ (Debian's libij-java) or a JDK")
def test_imagej_itself_reads_the_masks(masks: MaskSet, tmp_path: Path) -> None:
    write_rois(masks, tmp_path / "out")
    for name, numbers in {"a": (1, 2), "stack": (3,)}.items():
        call = ["java", "-Djava.awt.headless=true", "-cp", str(IMAGEJ), str(OPEN_ROIS), f"{tmp_path}/out/{name}.zip"]
        lines = subprocess.run(call, capture_output=True, text=True, check=True).stdout.splitlines()
        for line, number in zip(lines, numbers, strict=True):
            title, position, pixels = line.split("\t")
            mask = np.zeros((HEIGHT, WIDTH), bool)
            x, y = np.array([pixel.split(",") for pixel in pixels.split()], int).T
            mask[y, x] = True
            assert title.startswith(str(number))
            assert int(position) == (OBJECTS[number][1] + 1 if name == "stack" else 0)
            np.testing.assert_array_equal(mask, OBJECTS[number][3])


def test_fijis_regions_end_where_16_bits_do(masks: MaskSet, tmp_path: Path) -> None:
    far = masks.instances.masks[1]._replace(x1=LARGEST + 1)
    wide = MaskSet(Instances(masks.instances.prompts, {1: far}), masks.pixels, None)
    with pytest.raises(DataError, match=r"a\.tif: .*first 60535 pixels.* object 1 lies beyond"):
        write_rois(wide, tmp_path / "out")


def test_our_readers_take_what_we_write(masks: MaskSet, tmp_path: Path) -> None:
    write_geojson(masks, tmp_path / "geojson")
    write_rois(masks, tmp_path / "rois")
    images = Images({image.name: image.shape for image in IMAGES}, one_file=False)
    for files in (["geojson/a.geojson", "geojson/stack.geojson"], ["rois/a.zip", "rois/stack.zip"]):
        table = read_box_files([tmp_path / file for file in files], images, None)
        assert table[["image", "slice", "x0", "y0", "x1", "y1"]].to_numpy().tolist() == [
            ["a.tif", 0, 3, 2, 18, 12],
            ["a.tif", 0, 20, 14, 34, 28],
            ["stack.tif", 1, 0, 5, 40, 30],
        ]
    labels = drawn_labels([tmp_path / "rois/a.zip"], images)["a.tif"]
    np.testing.assert_array_equal(labels, SOLID * 1 + RING * 2)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools, as in `from_rle`
def test_pycocotools_fills_the_polygons_to_the_masks(
    masks: MaskSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_coco_polygons(masks, tmp_path / "coco_polygons.json")
    found = COCO(str(tmp_path / "coco_polygons.json"))
    assert [len(found.anns[number]["segmentation"]) for number in (1, 2, 3)] == [1, 1, 2]
    for number, annotation in found.anns.items():
        np.testing.assert_array_equal(found.annToMask(annotation).astype(bool), OBJECTS[number][3])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_yolos_labels_are_as_ultralytics_documents_them(masks: MaskSet, tmp_path: Path) -> None:
    write_yolo(masks, tmp_path / "out")
    record = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    assert record["names"] == {0: "a/b", 1: "cell", 2: "object"}
    files = {file.name: file.read_text().splitlines() for file in (tmp_path / "out/labels").iterdir()}
    assert {name: len(lines) for name, lines in files.items()} == {
        "a.txt": 2,
        "stack_0000.txt": 0,
        "stack_0001.txt": 1,
        "stack_0002.txt": 0,
        "no objects.txt": 0,
    }
    for line, number, name in zip([*files["a.txt"], *files["stack_0001.txt"]], (1, 2, 3), (1, 0, 2), strict=True):
        first, *numbers = line.split()
        corners = np.array(numbers, float).reshape(-1, 2)
        assert int(first) == name
        assert len(corners) >= 3
        assert corners.min() >= 0
        assert corners.max() <= 1
        polygon = shapely.buffer(shapely.Polygon(corners * (WIDTH, HEIGHT)), 0)  # lines of no width vanish
        assert polygon.area == pytest.approx(OBJECTS[number][3].sum())


def test_a_slice_of_a_stack_and_an_image_of_its_name_have_files_of_their_own(masks: MaskSet, tmp_path: Path) -> None:
    given = masks.instances.prompts
    images = (*given.images, ImageFile("stack_0001.png", "stack_0001.png", (1, HEIGHT, WIDTH), None, ""))
    instances = replace(masks.instances, prompts=replace(given, images=images))
    write_yolo(replace(masks, instances=instances), tmp_path / "out")
    files = {file.name: len(file.read_text().splitlines()) for file in (tmp_path / "out/labels").iterdir()}
    assert files["stack_0001.tif.txt"] == 1
    assert files["stack_0001.png.txt"] == 0
