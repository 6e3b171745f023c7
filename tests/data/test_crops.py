"""Random crops have the right number and labels, and are the same each time."""

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from helpers.stages import run_stage

from pipeline_lib.data.crops import LabelledImage, draw_crops, turn, with_other_tones
from pipeline_lib.data.dataset import Slice, Store, image_digest
from pipeline_lib.errors import DataError
from pipeline_lib.settings.datasets import Crops
from pipeline_lib.stages.convert import convert
from pipeline_lib.stages.raw import raw

SIDE = 20  # of an object in the image, pixels


def grid(split: str, index: int, height: int = 300, width: int = 260) -> LabelledImage:
    """Return an image of bright squares of `SIDE` pixels on a dark ground."""
    objects = np.zeros((height, width), np.uint32)
    for number, (y, x) in enumerate(((y, x) for y in range(5, 270, 30) for x in range(5, 230, 30)), start=1):
        objects[y : y + SIDE, x : x + SIDE] = number
    noise = np.random.default_rng(index).integers(0, 30, objects.shape)
    pixels = np.where(objects > 0, 180, 60) + noise
    return LabelledImage(Slice(split, 0, index, (height, width)), pixels.astype(np.uint8), objects)


IMAGES = [grid("train", 0), grid("validation", 1), grid("train", 2, 150, 90)]
CROPS = Crops(train=12, validation=5, object_side=(12.0, 48.0), augment=True, seed=3)


def draw(**changes: Any) -> list[LabelledImage]:
    return list(draw_crops("grids", IMAGES, CROPS.model_copy(update=changes), 128, 16))


def test_each_split_has_its_crops_of_its_own_images() -> None:
    crops = draw()
    assert [crop.origin.split for crop in crops] == ["train"] * 12 + ["validation"] * 5
    assert {crop.origin.index for crop in crops[:12]} == {0, 2}
    assert {crop.origin.index for crop in crops[12:]} == {1}
    for crop in crops:
        assert crop.pixels.shape == crop.objects.shape == crop.origin.size
        assert max(crop.pixels.shape) <= 128
        assert len(np.unique(crop.objects)) > 3


def test_objects_have_the_sides_that_are_asked_for_and_lie_on_their_pixels() -> None:
    sides = []
    for crop in draw(augment=False, train=40):
        counts = np.bincount(crop.objects.ravel())[1:]
        sides.append(np.sqrt(counts.max()))  # of one that is not cut
        assert np.corrcoef(crop.objects.ravel() > 0, crop.pixels.ravel())[0, 1] > 0.85
    assert min(sides) < 18
    assert max(sides) > 36
    assert min(sides) >= 11
    assert max(sides) <= 50


def test_augmented_crops_keep_their_objects_in_place_though_some_are_inverted() -> None:
    signs = [np.corrcoef(crop.objects.ravel() > 0, crop.pixels.ravel())[0, 1] for crop in draw(train=60)[:60]]
    assert min(map(abs, signs)) > 0.4
    assert 0.05 < np.mean(np.array(signs) < 0) < 0.4


def test_the_same_seed_and_name_give_the_same_crops() -> None:
    first, again, other = draw(), draw(), draw(seed=4)
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, other, strict=True))


def test_turning_and_tones_keep_the_shape_of_an_image() -> None:
    image = IMAGES[2]
    rng = np.random.default_rng(0)
    shapes = {turn(rng, image.pixels, image.objects)[0].shape for _ in range(12)}
    assert shapes == {(150, 90), (90, 150)}
    toned = with_other_tones(rng, image.pixels)
    assert (toned.dtype, toned.shape) == (np.uint8, image.pixels.shape)


def test_too_few_objects_are_an_error() -> None:
    lone = grid("train", 0)
    lone.objects[lone.objects > 2] = 0
    with pytest.raises(DataError, match="expected 12 crops with at least 3 objects, found only 0"):
        list(draw_crops("lone", [lone], CROPS, 128, 16))
    with pytest.raises(DataError, match="expected an image with objects in each split"):
        list(draw_crops("none", [grid("train", 0)], CROPS, 128, 16))


def test_a_store_of_crops_keeps_whole_test_slices_and_knows_the_images(tmp_path: Path) -> None:
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for image in [*IMAGES, grid("test", 3)]:
        name = f"{image.origin.split}{image.origin.index}.png"
        iio.imwrite(tmp_path / "images" / name, image.pixels)
        iio.imwrite(tmp_path / "labels" / name, image.objects.astype(np.uint16))
    split = {"train": ["train*"], "validation": ["validation*"], "test": "rest"}
    volume = {"images": "images", "labels": "labels", "split": split}
    source = {"kind": "path", "folder": str(tmp_path)}
    run_stage(raw, manifest=str(tmp_path / "m.json"), source=source, volumes=[volume], grey_range=None)
    labels = {"kind": "instances"}
    settings = {"minimum_area": 16, "pixel_size": [1, 1, 1], "grey_range": None, "tile": 128, "name": "grids"}
    path = str(tmp_path / "s.zarr")
    run_stage(convert, manifest=str(tmp_path / "m.json"), store=path, labels=labels, crops=CROPS.plain(), **settings)
    store = Store.open(path)
    assert [each.split for each in store.slices] == ["train"] * 12 + ["validation"] * 5 + ["test"]
    assert store.images_of("validation") == [image_digest(IMAGES[1].pixels)]
    assert store.images_of("test") == [image_digest(grid("test", 3).pixels)]
    by_name = {name: IMAGES[index] for index, name in enumerate(("train0", "validation1", "train2"))}
    assert set(store.images_of("train")) == {image_digest(by_name[name].pixels) for name in ("train0", "train2")}
    tile = store.pixels(len(store) - 1)
    assert tile.shape == (300 - 2 * 128, 260 - 2 * 128)
    np.testing.assert_array_equal(tile, grid("test", 3).pixels[256:, 256:])
