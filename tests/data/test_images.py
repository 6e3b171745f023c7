"""Sets of images of different sizes: all images are found, and parts of them are read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as iio
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray

from pipeline_lib.data import images as images_module
from pipeline_lib.data.images import Pixels, open_images
from pipeline_lib.errors import DataError
from pipeline_lib.settings.segment import FixedGrey, MeasuredGrey

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 256, (3, 40, 50), dtype=np.uint8)


def write_zarr(path: Path) -> None:
    zarr.save_array(str(path), STACK)


def write_ome_zarr(path: Path) -> None:
    zarr.open_group(path, mode="w").create_array("0", data=STACK[None, None])


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["raw"] = STACK


@pytest.mark.parametrize(
    ("name", "write", "asked"),
    [
        ("a.tif", lambda path: tifffile.imwrite(path, STACK, photometric="minisblack"), "a.tif"),
        ("a.zarr", write_zarr, "a.zarr"),
        ("b.ome.zarr", write_ome_zarr, "b.ome.zarr"),
        ("a.h5", write_hdf5, "a.h5:raw"),
    ],
)
def test_a_stack_is_one_image(tmp_path: Path, name: str, write: Callable[[Path], None], asked: str) -> None:
    write(tmp_path / name)
    (image,) = open_images(str(tmp_path / asked), None)
    assert (image.name, image.shape, image.grey_range) == (name, (3, 40, 50), None)
    part = Pixels().part(image, 2, slice(5, 20), slice(30, 50))
    np.testing.assert_array_equal(part, STACK[2, 5:20, 30:50])


def test_a_folder_is_a_set_of_images_of_different_sizes(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "s10.png", STACK[0])
    iio.imwrite(tmp_path / "s2.jpg", STACK[0, :20, :30], quality=100)
    tifffile.imwrite(tmp_path / "s1.tif", STACK, photometric="minisblack")
    write_ome_zarr(tmp_path / "s3.ome.zarr")
    (tmp_path / "notes.md").write_text("no image")
    (tmp_path / "raw").mkdir()
    found = [(image.name, image.shape) for image in open_images(str(tmp_path), None)]
    expected = [
        ("s1.tif", (3, 40, 50)),
        ("s2.jpg", (1, 20, 30)),
        ("s3.ome.zarr", (3, 40, 50)),
        ("s10.png", (1, 40, 50)),
    ]
    assert found == expected


def test_bytes_of_mrc_that_may_be_unsigned_are_named(tmp_path: Path) -> None:
    mrcfile.new(tmp_path / "a.mrc", np.zeros((2, 8, 8), np.int8)).close()
    with pytest.raises(
        DataError,
        match=r"a\.mrc: expected an 8-bit image, found int8 pixels\. If its bytes are unsigned, save it as TIFF",
    ):
        open_images(str(tmp_path / "a.mrc"), None)


def test_grey_ranges_and_percentiles(tmp_path: Path) -> None:
    pixels = np.linspace(1000, 3000, 40 * 50).reshape(40, 50).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    path = str(tmp_path / "a.tif")
    with pytest.raises(
        DataError, match=r"a\.tif: expected an 8-bit image, found uint16 pixels\. .* --range.*segment\.grey"
    ):
        open_images(path, None)
    (given,) = open_images(path, FixedGrey(range=(1000, 3000)))
    (measured,) = open_images(path, MeasuredGrey(percentiles=(0, 100)))
    assert given.grey_range == measured.grey_range == (1000, 3000)
    part = Pixels().part(given, 0, slice(0, 40), slice(0, 50))
    assert (part.dtype, part.min(), part.max()) == (np.uint8, 0, 255)


def test_percentiles_of_what_is_not_a_number_or_all_alike_are_errors(tmp_path: Path) -> None:
    for name, pixels, says in (
        ("nan.tif", np.full((9, 9), np.nan, np.float32), "found NaN or infinity"),
        ("flat.tif", np.ones((9, 9), np.float32), "expected different grey values .* found 1.0 for both"),
    ):
        tifffile.imwrite(tmp_path / name, pixels)
        with pytest.raises(DataError, match=rf"{name}.*{says}"):
            open_images(str(tmp_path / name), MeasuredGrey(percentiles=(1, 99)))


def test_nothing_to_open(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no image in this folder"):
        open_images(str(tmp_path), None)
    with pytest.raises(DataError, match="there is no such file"):
        open_images(str(tmp_path / "none.tif"), None)


@pytest.mark.parametrize("ndim", [2, 3])
def test_of_a_large_slice_only_the_part_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ndim: int) -> None:
    stored = STACK[0] if ndim == 2 else STACK
    zarr.create_array(tmp_path / "a.zarr", data=stored, chunks=(1, 10, 10)[3 - ndim :])
    (image,) = open_images(str(tmp_path / "a.zarr"), None)
    monkeypatch.setattr(images_module, "HELD", 0)
    read: list[Any] = []

    def watched(array: zarr.Array[Any], where: Any, original: Any = zarr.Array.__getitem__) -> NDArray[Any]:
        read.append(
            np.prod(
                [
                    len(range(*part.indices(side)))
                    for part, side in zip(where, array.shape, strict=True)
                    if isinstance(part, slice)
                ]
            )
        )
        return original(array, where)

    monkeypatch.setattr(zarr.Array, "__getitem__", watched)
    part = Pixels().part(image, 0, slice(0, 10), slice(20, 30))
    np.testing.assert_array_equal(part, STACK[0, :10, 20:30])
    assert sum(read) == 100


def test_an_image_that_has_changed_is_noticed(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0])
    (image,) = open_images(str(tmp_path / "a.tif"), None)
    tifffile.imwrite(tmp_path / "a.tif", STACK[0, :20])
    with pytest.raises(DataError, match=r"a\.tif: expected the shape \(1, 40, 50\), found \(1, 20, 50\)"):
        Pixels().part(image, 0, slice(0, 9), slice(0, 9))


def test_percentiles_of_one_grey_are_an_error(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full_like(STACK[0], 7))
    with pytest.raises(DataError, match=r"expected different grey values .* found 7\.0 for both"):
        open_images(str(tmp_path / "a.tif"), MeasuredGrey(percentiles=(0, 100)))


def test_colour_is_refused_at_once_and_alpha_is_left_out(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "alpha.png", np.stack([STACK[0], STACK[1]], axis=-1))
    (image,) = open_images(str(tmp_path / "alpha.png"), None)
    assert image.shape == (1, 40, 50)
    np.testing.assert_array_equal(Pixels().part(image, 0, slice(0, 40), slice(0, 50)), STACK[0])
    iio.imwrite(tmp_path / "colour.png", np.moveaxis(STACK, 0, -1))
    with pytest.raises(DataError, match=r"colour\.png: expected grey slices"):
        open_images(str(tmp_path), None)


def test_other_pixels_are_told_by_the_digest(tmp_path: Path) -> None:
    digests = []
    for index in range(2):
        tifffile.imwrite(tmp_path / "a.tif", STACK[index])
        digests += [image.digest for image in open_images(str(tmp_path / "a.tif"), None)]
    assert digests[0] != digests[1]
