"""Images and boxes lie in folders with the same subfolders, in every format and output."""

import json
from collections.abc import Callable
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd
import pytest
import tifffile
import zarr
from helpers.box_writers import WRITERS, write, write_rows

from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.table import read_box_files
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.exact_boxes import exact_boxes
from pipeline_lib.data.image_files import files_below
from pipeline_lib.data.images import ImageFile, open_images
from pipeline_lib.data.instances import Instances
from pipeline_lib.data.labelled_images import labelled_stacks
from pipeline_lib.data.mask_formats.mask_format import MaskSet
from pipeline_lib.data.mask_formats.ome_zarr import write_label_images
from pipeline_lib.data.mask_formats.table import FROM_MASKS, OUTLINES
from pipeline_lib.data.masks import to_rle
from pipeline_lib.data.paths import files_of
from pipeline_lib.data.prompts import PlacedWindow, Prompts
from pipeline_lib.errors import DataError
from pipeline_lib.stages.label_tiffs import label_tiffs

SHAPE = (1, 60, 90)
NAMES = ["a/x.png", "b/x.png", "x.png"]
IMAGES = Images(dict.fromkeys(NAMES, SHAPE))
NESTED = Images(dict.fromkeys(NAMES[:2], SHAPE))
FLAT = Images({"x.png": SHAPE, "y.png": SHAPE})
BOXES = {"a/x.png": (3, 5, 20, 60), "b/x.png": (70, 2, 90, 59), "x.png": (0, 0, 9, 9)}
PIXELS = np.zeros((60, 90), np.uint8)


def test_images_of_folders_have_paths_for_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ["x10.png", "x9.png", "b/x.png", "a/c/x.png", ".hidden/x.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        iio.imwrite(tmp_path / name, PIXELS)
    zarr.create_array(tmp_path / "a/v.zarr", data=PIXELS[None])
    write(tmp_path / "b/notes.dm4", "")
    (tmp_path / "b/loop").symlink_to(tmp_path)
    caplog.set_level("INFO")
    names = [image.name for image in open_images(str(tmp_path), None)]
    assert names == ["a/c/x.png", "a/v.zarr", "b/x.png", "x9.png", "x10.png"]
    assert "does not read 1 .dm4" in caplog.text
    assert "5 images in 4 folders" in caplog.text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a/x.png", "a/x.png"),
        ("b\\x", "b/x.png"),
        ("/data/set/a/x.jpg", "a/x.png"),
        ("x.png", "x.png"),
        ("./x", "x.png"),
        ("other/y.png", "y.png"),  # the folder that holds all images
    ],
)
def test_a_path_names_one_image(text: str, name: str) -> None:
    assert Images({**IMAGES.shapes, "y.png": SHAPE}).find(text) == name


def test_a_name_of_images_in_several_folders_is_refused_and_a_wrong_folder_is_none() -> None:
    with pytest.raises(
        DataError, match=r"'x' fits several images: a/x\.png, b/x\.png\. Name the image with its folder"
    ):
        NESTED.find("x")
    with pytest.raises(DataError, match=r"'c/x\.png' fits several images: a/x\.png, b/x\.png, x\.png"):
        IMAGES.find("c/x.png")
    assert NESTED.find("c/x.png") == "c/x.png"  # which the checks then refuse
    assert Images({"set/a/x.png": SHAPE, "b/x.png": SHAPE}).find("a/x.png") == "set/a/x.png"


NAMED = {  # formats whose files name images by path
    "coco": "boxes.json",
    "results": "results.json",
    "xyxy": "xyxy.csv",
    "voc": "any.xml",
    "cvat": "annotations.xml",
    "labelme": "x.json",
    "label_studio_csv": "project-1.csv",
    "via": "via_project.json",
    "via_3": "via_project.json",
    "via_csv": "via.csv",
    "make_sense": "labels_my-project.csv",
}


@pytest.mark.parametrize("form", NAMED)
@pytest.mark.parametrize("name", NAMES[:2])
def test_a_file_that_names_folders_finds_its_image(tmp_path: Path, form: str, name: str) -> None:
    place = WRITERS[form](tmp_path, name.replace("/", "_"), SHAPE[1:], [BOXES[name]])
    file = place if place.is_file() else next(place.glob("*.*"))
    text = file.read_text().replace(name.replace("/", "_"), name).replace(Path(name.replace("/", "_")).stem, name[:-4])
    text = text.replace("0a1b2c3d-", "").replace("/data/upload/1/", "/data/local-files/?d=set/")
    table = read_box_files([write(tmp_path / "named" / file.name, text)], NESTED, None)
    assert table["image"].tolist() == [name]
    np.testing.assert_allclose(table[XYXY].to_numpy(), [BOXES[name]], atol=1e-9)


NOT_IN_FOLDERS = ("napari", "results_with_data_set", "polygons")  # slow, of several files, and in folders of their own


@pytest.mark.parametrize("form", [name for name in WRITERS if name not in NOT_IN_FOLDERS])
def test_files_in_folders_are_of_the_images_in_folders_of_the_same_names(tmp_path: Path, form: str) -> None:
    for name in NESTED.shapes:
        WRITERS[form](tmp_path / Path(name).parent, "x.png", SHAPE[1:], [BOXES[name]])
    table = read_box_files([tmp_path], NESTED, None)
    assert table["image"].tolist() == list(NESTED.shapes)
    np.testing.assert_allclose(table[XYXY].to_numpy(), [BOXES[name] for name in NESTED.shapes], atol=1e-9)


def test_voc_may_name_the_folder_of_another_machine(tmp_path: Path) -> None:
    for folder in "a", "b":
        path = WRITERS["voc"](tmp_path / folder, "x.png", SHAPE[1:], [BOXES[f"{folder}/x.png"]])
        path.write_text(path.read_text().replace("<filename>", "<folder>JPEGImages</folder><filename>"))
    assert read_box_files([tmp_path], NESTED, None)["image"].tolist() == ["a/x.png", "b/x.png"]


def test_voc_names_the_folder_of_its_image(tmp_path: Path) -> None:
    path = WRITERS["voc"](tmp_path, "x.png", SHAPE[1:], [BOXES["b/x.png"]])
    path.write_text(path.read_text().replace("<filename>", "<folder>b</folder><filename>"))
    assert read_box_files([path], NESTED, None)["image"].tolist() == ["b/x.png"]


def test_voc_must_not_name_an_image_of_another_folder(tmp_path: Path) -> None:
    path = WRITERS["voc"](tmp_path / "a", "x.png", SHAPE[1:], [BOXES["a/x.png"]])
    path.write_text(path.read_text().replace("<filename>", "<folder>b</folder><filename>"))
    with pytest.raises(
        DataError, match=r"expected boxes of a/x\.png, by the folder of the file, but the file names b/x\.png"
    ):
        read_box_files([tmp_path], NESTED, None)


def test_a_file_and_its_folder_must_not_mean_two_images(tmp_path: Path) -> None:
    write_rows(tmp_path / "a/boxes.csv", ["image", *XYXY], [("b/x.png", 1, 2, 30, 40)])
    with pytest.raises(
        DataError, match=r"'b/x\.png' is the image b/x\.png, but the file of boxes lies in the folder a, wh"
    ):
        read_box_files([tmp_path], NESTED, None)
    assert read_box_files([tmp_path / "a"], NESTED, None)["image"].tolist() == ["b/x.png"]


@pytest.mark.parametrize("folders", [("new", "old"), ("", "old")])
def test_boxes_of_one_image_in_two_folders_are_refused(tmp_path: Path, folders: tuple[str, str]) -> None:
    for folder in folders:
        write(tmp_path / folder / "x.txt", "0 0.5 0.5 0.5 0.5\n")
    with pytest.raises(DataError, match=r"x\.txt: has boxes of x\.png, and so has .*x\.txt in another folder"):
        read_box_files([tmp_path], FLAT, None)
    assert len(read_box_files([tmp_path / folder / "x.txt" for folder in folders], FLAT, None)) == 2


def test_boxes_are_not_put_on_an_image_of_another_folder(tmp_path: Path) -> None:
    write(tmp_path / "a/x.txt", "0 0.5 0.5 0.5 0.5\n")
    images = Images({"b/x.png": SHAPE, "b/y.png": SHAPE})
    assert read_box_files([tmp_path], images, None)["image"].tolist() == ["a/x"]


@pytest.fixture
def masks() -> MaskSet:
    images = tuple(ImageFile(name, name, SHAPE, None, "") for name in NAMES)
    windows = tuple(PlacedWindow(name, 0, 0, 0, 90) for name in NAMES)
    rows, boxes = [], []
    for number, (name, (x0, y0, x1, y1)) in enumerate(BOXES.items(), start=1):
        mask = np.zeros((60, 90), bool)
        mask[y0:y1, x0:x1] = True
        rows.append({"window": number - 1, "box": number, "mask": to_rle(mask), "predicted_iou": 0.9, "output": True})
        boxes.append({"image": name, "slice": 0, "label": "cell", "score": np.nan})
    prompts = Prompts(images, pd.DataFrame(boxes, index=[1, 2, 3]), windows)
    return MaskSet(Instances.of(prompts, pd.DataFrame(rows)), lambda _image, _z, y, x: PIXELS[y, x], None)


OURS = [each for each in (*FROM_MASKS, *OUTLINES) if each.name != "labels"]


@pytest.mark.parametrize("form", OURS, ids=lambda form: form.name)
def test_outputs_keep_images_of_one_name_apart(masks: MaskSet, tmp_path: Path, form: object) -> None:
    write_output: Callable[[MaskSet, Path], None] = form.write  # type: ignore[attr-defined]
    path = tmp_path / form.file  # type: ignore[attr-defined]
    write_output(masks, path)
    boxes = path / "labels" if path.name == "yolo" else path
    table = read_box_files([boxes], IMAGES, None)
    found = {row["image"]: [row[edge] for edge in XYXY] for row in table.to_dict("records")}
    assert set(found) == set(NAMES)
    for name, box in BOXES.items():
        np.testing.assert_allclose(found[name], box, atol=1e-4)


def test_label_images_keep_images_of_one_name_apart(masks: MaskSet, tmp_path: Path) -> None:
    write_label_images(masks, tmp_path / "labels.zarr")
    assert "a" in zarr.open_group(tmp_path / "labels.zarr", mode="r")
    label_tiffs(labels=str(tmp_path / "labels.zarr"), tiffs=str(tmp_path / "tiffs"))
    for number, name in enumerate(NAMES, start=1):
        pixels = tifffile.imread((tmp_path / "tiffs" / name).with_suffix(".tif"))
        assert set(np.unique(pixels)) == {0, number}
    exact = exact_boxes(str(tmp_path / "tiffs"), "instances", 1)
    assert exact.objects["image"].tolist() == ["a/x.tif", "b/x.tif", "x.tif"]


def test_labels_in_folders_are_of_the_images_in_folders_of_the_same_names(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES[:2], start=1):
        for kind, pixels in {"images": PIXELS, "labels": np.full_like(PIXELS, number)}.items():
            (tmp_path / kind / name).parent.mkdir(parents=True)
            iio.imwrite(tmp_path / kind / name, pixels)
    images, labels, drawn = str(tmp_path / "images"), str(tmp_path / "labels"), tmp_path / "drawn"
    stacks = labelled_stacks(images, [labels], None, drawn)
    assert {stack.name: set(stack.values) for stack in stacks} == {"a/x.png": {1}, "b/x.png": {2}}
    for outer, inner in ((tmp_path, labels), (images, tmp_path)):
        with pytest.raises(DataError, match="expected labels outside the folder of the images"):
            labelled_stacks(str(outer), [str(inner)], None, drawn)
    write(tmp_path / "labels/x.json", json.dumps({}))
    with pytest.raises(DataError, match=r"expected outlines or label images, found both, x\.json and a/x\.png"):
        labelled_stacks(images, [labels], None, drawn)


def test_files_in_linked_folders_are_read_and_watched(tmp_path: Path) -> None:
    """Folders that link to each other, or to a folder that contains them, are read once."""
    for folder in ("elsewhere", "other", "images"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1.png").write_bytes(b"")
    (tmp_path / "images/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "other")
    (tmp_path / "other/forth").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "other/up").symlink_to(tmp_path / "images")
    found = [file.relative_to(tmp_path / "images").as_posix() for file in files_below(tmp_path / "images")]
    assert found == ["1.png", "linked/1.png", "linked/back/1.png"]
    assert files_of(tmp_path / "images") == sorted(tmp_path / "images" / file for file in found)
