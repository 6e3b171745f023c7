"""Pictures of whole images with outlines, and what a page can hold of them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.instances import Instances
from pipeline_lib.data.mask_formats.mask_format import MaskSet
from pipeline_lib.data.mask_formats.ome_zarr import picture, write_label_images
from pipeline_lib.data.masks import to_rle
from pipeline_lib.data.outlines import polygons
from pipeline_lib.data.prompts import PlacedWindow, Prompts
from pipeline_lib.report import overviews as module
from pipeline_lib.report.overviews import overviews, svg_path

SIDE = 64


def square(y: int, x: int, side: int) -> NDArray[np.bool_]:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + side, x : x + side] = True
    return mask


OBJECTS = [  # image, mask, flags
    ("a", square(8, 16, 40), ""),
    ("a", square(1, 1, 1), "unstable"),
    ("a", square(0, 0, 0), "empty"),
    ("b", square(10, 10, 4), ""),
    ("c", square(10, 10, 4), "unstable"),
]


@pytest.fixture
def instances() -> Instances:
    names = ["a", "b", "c", "no boxes"]
    images = tuple(ImageFile(name, name, (1, SIDE, SIDE), None, "") for name in names)
    windows = tuple(PlacedWindow(name, 0, 0, 0, SIDE) for name in names)
    rows = [
        {"window": names.index(image), "box": number, "mask": to_rle(mask), "predicted_iou": 0.9, "output": True}
        for number, (image, mask, _) in enumerate(OBJECTS, start=1)
    ]
    return Instances.of(Prompts(images, pd.DataFrame(), windows), pd.DataFrame(rows))


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [(image, 0, flags, int(mask.sum()), 4, 4, 8, 8) for image, mask, flags in OBJECTS]
    names = ["image", "slice", "flags", "area", *(f"given_{edge}" for edge in ("x0", "y0", "x1", "y1"))]
    skipped = ("a", 0, "skipped: has no area", None, 0, 0, 0, 0)
    numbers = pd.RangeIndex(1, len(OBJECTS) + 2)
    return pd.DataFrame([*rows, skipped], numbers, names).assign(title=[f"object {number}" for number in numbers])


@pytest.fixture
def labels(instances: Instances, tmp_path: Path) -> Path:
    grey = np.arange(SIDE**2, dtype=np.float64).reshape(SIDE, SIDE) / SIDE**2 * 255
    pixels = grey.astype(np.uint8)
    write_label_images(MaskSet(instances, lambda _image, _z, y, x: pixels[y, x], None), tmp_path / "labels.zarr")
    return tmp_path / "labels.zarr"


def test_a_path_goes_along_the_edges() -> None:
    ring = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]], bool)
    assert svg_path(polygons(ring, x=10, y=20)) == "M10 20h3v3h-3zM11 22h1v-1h-1z"


def test_pictures_are_as_large_as_asked_for(labels: Path) -> None:
    assert picture(labels / "a", 0, 100).shape == (64, 64)
    small = picture(labels / "a", 0, 16)
    assert small.shape == (16, 16)
    assert small.mean() == pytest.approx(picture(labels / "a", 0, 64).mean(), abs=1)


def test_outlines_fit_their_pictures(
    instances: Instances, table: pd.DataFrame, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LARGEST", 16)
    monkeypatch.setattr(module, "SMALLEST", 16)
    first, *others = overviews(instances, table, labels)
    assert [first.heading, *(each.heading for each in others)] == ["a", "b", "c"]
    assert first.size == (16, 16)
    paths = {each.number: each.path for each in first.objects}
    assert paths[1] == "M4 2h10v10h-10z"
    assert paths[2] == "M0.2 0.2H0.5V0.5H0.2z"  # too small for the picture, so its box
    assert paths[3] == "M1.0 1.0H2.0V2.0H1.0z"  # without a mask the box that was given
    assert [each.number for each in first.objects] == [1, 2, 3]  # the largest lies at the bottom
    assert [(each.number, each.says) for each in first.listed] == [
        (2, "object 2: unstable"),
        (3, "object 3: empty"),
        (1, "object 1"),
    ]


def test_images_with_most_flags_are_shown_if_there_are_too_many(
    instances: Instances, table: pd.DataFrame, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAWN", 4)
    assert [each.heading for each in overviews(instances, table, labels)] == ["a", "c"]
    monkeypatch.setattr(module, "PIXELS", module.SMALLEST**2)
    assert [each.heading for each in overviews(instances, table, labels)] == ["a"]


def test_flagged_objects_are_drawn_if_an_image_has_too_many(
    instances: Instances, table: pd.DataFrame, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRAWN", 2)
    (only,) = overviews(instances, table, labels)
    assert ({each.number for each in only.objects}, only.count) == ({2, 3}, 3)
