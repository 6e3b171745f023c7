"""All formats of images follow the same rules for colour, palettes, orientation and axes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
from numpy.typing import NDArray
from PIL import Image

from pipeline_lib.data.images import Pixels, open_images
from pipeline_lib.data.readers import open_labels, open_stack
from pipeline_lib.data.tiling import as_grey, check_value
from pipeline_lib.data.volumes import check_volume
from pipeline_lib.errors import DataError
from pipeline_lib.settings.datasets import BinaryLabels, Volume
from pipeline_lib.settings.segment import FixedGrey

Write = Callable[[Path], None]
GREY = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
GREY[0, :2] = 0, 255
RGB = np.stack([GREY] * 3, axis=-1)
OPAQUE = np.full_like(GREY, 255)
ORDER = np.random.default_rng(1).permutation(256)  # greys of a palette that is sorted by something else


def palette_png(path: Path, greys: NDArray[Any]) -> None:
    picture = Image.fromarray(np.argsort(greys)[GREY].astype(np.uint8), "L")
    picture.putpalette(np.repeat(greys, 3).astype(np.uint8).tobytes())
    picture.save(path)


def palette_tiff(path: Path, greys: NDArray[Any], factor: int = 257) -> None:
    numbers = np.argsort(greys)[GREY].astype(np.uint8)
    colormap = np.stack([greys * factor] * 3).astype(np.uint16)
    tifffile.imwrite(path, numbers, photometric="palette", colormap=colormap)


GREY_FILES: dict[str, tuple[str, Write]] = {
    "RGB PNG": ("a.png", lambda path: iio.imwrite(path, RGB)),
    "RGBA PNG": ("a.png", lambda path: iio.imwrite(path, np.dstack([RGB, OPAQUE]))),
    "RGB BMP": ("a.bmp", lambda path: Image.fromarray(RGB).save(path)),
    "grey BMP": ("a.bmp", lambda path: Image.fromarray(GREY).save(path)),
    "RGB TIFF": ("a.tif", lambda path: tifffile.imwrite(path, RGB, photometric="rgb")),
    "RGB TIFF, planes": (
        "a.tif",
        lambda path: tifffile.imwrite(path, np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"),
    ),
    "RGBA TIFF": (
        "a.tif",
        lambda path: tifffile.imwrite(path, np.dstack([RGB, OPAQUE]), photometric="rgb", extrasamples=["unassalpha"]),
    ),
    "ramp in a PNG": ("a.png", lambda path: palette_png(path, np.arange(256))),
    "other order in a PNG": ("a.png", lambda path: palette_png(path, ORDER)),
    "ramp in a TIFF": ("a.tif", lambda path: palette_tiff(path, np.arange(256))),
    "inverted ramp in a TIFF": ("a.tif", lambda path: palette_tiff(path, np.arange(256)[::-1])),
    "other order in a TIFF": ("a.tif", lambda path: palette_tiff(path, ORDER)),
    "ramp in a TIFF, as old programs scale it": ("a.tif", lambda path: palette_tiff(path, ORDER, 256)),
}


@pytest.mark.parametrize("kind", GREY_FILES)
def test_grey_in_a_colour_file_is_what_a_screen_shows(tmp_path: Path, kind: str) -> None:
    name, write = GREY_FILES[kind]
    write(tmp_path / name)
    for path in tmp_path / name, tmp_path:  # the file, and a folder of slices
        np.testing.assert_array_equal(open_stack(str(path)).compute(), GREY[None])


@pytest.mark.parametrize(
    ("name", "write", "says"),
    [
        ("a.tif", lambda path: tifffile.imwrite(path, RGB // [1, 1, 2], photometric="rgb"), "found colour or channels"),
        (
            "a.bmp",
            lambda path: Image.fromarray((RGB // [1, 1, 2]).astype(np.uint8)).save(path),
            "found colour or channels",
        ),
        ("a.jpg", lambda path: Image.fromarray(RGB).convert("CMYK").save(path), "mode is CMYK"),
        ("a.png", lambda path: iio.imwrite(path, RGB.astype(np.uint16)), "expected a grey PNG file, .* 16 bits"),
        ("a.tif", lambda path: tifffile.imwrite(path, GREY, extratags=[(274, "H", 1, 6)]), "Orientation is 6"),
        ("a.png", lambda path: GIF_COLOURS.save(path), "colours of a palette"),
    ],
)
def test_what_programs_show_in_different_ways_is_refused(tmp_path: Path, name: str, write: Write, says: str) -> None:
    if "16 bits" in says:
        pytest.importorskip("imagecodecs")
        (tmp_path / name).write_bytes(png16())
    else:
        write(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: .*{says}"):
        open_stack(str(tmp_path / name)).compute()


GIF_COLOURS = Image.fromarray(GREY % 4, "L")
GIF_COLOURS.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])


def png16() -> bytes:
    import imagecodecs

    return bytes(imagecodecs.png_encode(np.full((4, 5, 3), 4000, np.uint16)))


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize(("tag", "turns"), [(6, 1), (8, 3), (3, 2)])
def test_an_image_is_turned_as_its_exif_orientation_says(tmp_path: Path, suffix: str, tag: int, turns: int) -> None:
    exif = Image.Exif()
    exif[274] = tag
    smooth = np.add.outer(np.arange(20) * 5, np.arange(30) * 2).astype(np.uint8)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.rot90(smooth, turns).copy()).save(path, exif=exif, quality=100)
    stack = open_stack(str(path))
    assert stack.shape == (1, 20, 30)
    np.testing.assert_allclose(stack[0].compute().astype(int), smooth, atol=3)


def tiff_of(axes: str, **options: Any) -> Write:
    sizes = {"Z": 5, "C": 2, "T": 3}
    shape = (*(sizes[axis] for axis in axes[:-2]), 20, 30)
    pixels = np.zeros(shape, np.uint8)
    if "C" in axes:
        np.moveaxis(pixels, axes.index("C"), 0)[1] = GREY
    return lambda path: tifffile.imwrite(path, pixels, metadata={"axes": axes}, **options)


def zarr_of(axes: str, *paths: str) -> Write:
    def write(path: Path) -> None:
        group = zarr.open_group(path, mode="w", zarr_format=2)
        multiscales(group, axes, *paths)

    return write


def multiscales(group: Any, axes: str, *paths: str) -> None:
    sizes = {"t": 1, "c": 2, "z": 1}
    shape = (*(sizes[axis] for axis in axes[:-2]), 20, 30)
    pixels = np.zeros(shape, np.uint8)
    np.moveaxis(pixels, axes.index("c"), 0)[1] = GREY
    for level, path in enumerate(paths):
        group.create_array(path, data=pixels[..., :: 2**level, :: 2**level])
    named = [{"name": axis} for axis in axes]
    group.attrs["multiscales"] = [{"axes": named, "datasets": [{"path": path} for path in paths]}]


def bioformats2raw(path: Path) -> None:
    root = zarr.open_group(path, mode="w", zarr_format=2, attributes={"bioformats2raw.layout": 3})
    multiscales(root.create_group("0"), "tczyx", "0", "1")
    root.create_group("OME", attributes={"series": ["0"]})


CHANNELS: dict[str, tuple[str, Write]] = {
    "OME-TIFF": ("a.ome.tif", tiff_of("CYX", ome=True)),
    "OME-TIFF, slices": ("a.ome.tif", tiff_of("ZCYX", ome=True)),
    "ImageJ": ("a.tif", tiff_of("CYX", imagej=True)),
    "OME-Zarr": ("a.zarr", zarr_of("tczyx", "0", "1")),
    "OME-Zarr, cyx": ("a.zarr", zarr_of("cyx", "0")),
    "OME-Zarr, other names": ("a.zarr", zarr_of("cyx", "s0", "s1")),
    "OME-Zarr, other order": ("a.zarr", zarr_of("cyx", "1", "0")),
    "bioformats2raw": ("a.zarr", bioformats2raw),
}


@pytest.mark.parametrize("kind", CHANNELS)
def test_a_channel_is_chosen_by_the_axes_that_the_file_names(tmp_path: Path, kind: str) -> None:
    name, write = CHANNELS[kind]
    write(tmp_path / name)
    with pytest.raises(DataError, match=rf"{name}: .* 2 channels\. Choose one with --channel .* from 0 to 1"):
        open_images(str(tmp_path / name), None)
    (image,) = open_images(str(tmp_path / name), None, channel=1)
    np.testing.assert_array_equal(Pixels().part(image, 0, slice(0, 20), slice(0, 30)), GREY)
    with pytest.raises(DataError, match="expected channel 2, counted from 0, but it has 2 channels"):
        open_stack(str(tmp_path / name), channel=2)


def test_an_image_without_channels_has_no_second_one(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "a.png", GREY)
    with pytest.raises(DataError, match=r"a\.png: expected channel 1, counted from 0, but it has one channel"):
        open_images(str(tmp_path), None, channel=1)


@pytest.mark.parametrize(
    ("axes", "slices"), [("TYX", 3), ("ZYX", 5), ("TZYX", None)], ids=["time", "depth", "time and depth"]
)
def test_slices_are_one_axis(tmp_path: Path, axes: str, slices: int | None) -> None:
    tiff_of(axes, imagej=True)(tmp_path / "a.tif")
    if slices:
        assert open_stack(str(tmp_path / "a.tif")).shape == (slices, 20, 30)
        return
    with pytest.raises(DataError, match=r"expected one axis of slices, found T \(3\) and Z \(5\)"):
        open_stack(str(tmp_path / "a.tif"))


def test_a_folder_of_several_ome_zarr_images_names_them(tmp_path: Path) -> None:
    bioformats2raw(tmp_path / "a.zarr")
    root = zarr.open_group(tmp_path / "a.zarr")
    multiscales(root.create_group("1"), "cyx", "0")
    root["OME"].attrs["series"] = ["0", "1"]
    with pytest.raises(DataError, match=r"expected one image, found 2 \(0, 1\); name one of them, such as .*a\.zarr/0"):
        open_stack(str(tmp_path / "a.zarr"))


def test_an_ome_tiff_of_several_images_names_them(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for name in "first", "second":
            writer.write(GREY, metadata={"axes": "YX", "Name": name})
    with pytest.raises(DataError, match=r"found 2 images \(first \(20, 30\), second \(20, 30\)\)"):
        open_stack(str(tmp_path / "a.ome.tif"))


@pytest.mark.parametrize(("stamp", "flags", "unsigned"), [(1146047817, 0, True), (1146047817, 1, False), (0, 0, False)])
@pytest.mark.parametrize("order", ["<", ">"])
def test_imod_says_whether_bytes_of_mrc_are_signed(
    tmp_path: Path, stamp: int, flags: int, unsigned: bool, order: str
) -> None:
    pixels = np.arange(0, 240, 2, np.uint8).reshape(1, 10, 12)
    path = tmp_path / "a.mrc"
    mrcfile.new(path, pixels.view(np.int8)).close()
    header = np.fromfile(path, np.uint8, 1024)
    fields = np.frombuffer(header.tobytes(), mrcfile.dtypes.HEADER_DTYPE.newbyteorder("<"))
    swapped = fields.astype(mrcfile.dtypes.HEADER_DTYPE.newbyteorder(order))
    swapped["machst"] = [[0x44, 0x44, 0, 0] if order == "<" else [0x11, 0x11, 0, 0]]
    content = bytearray(swapped.tobytes())
    content[152:160] = np.array([stamp, flags], f"{order}i4").tobytes()
    path.write_bytes(bytes(content) + pixels.tobytes())
    stack = open_stack(str(path))
    assert stack.dtype == (np.uint8 if unsigned else np.int8)
    np.testing.assert_array_equal(stack.compute().view(np.uint8), pixels)


@pytest.mark.parametrize("suffix", [".mrc", ".st", ".rec"])
@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.uint16, np.float32])
def test_mrc_files_are_stacks(tmp_path: Path, suffix: str, dtype: Any) -> None:
    stack = np.random.default_rng(0).integers(-100, 100, (4, 20, 30)).astype(dtype)
    mrcfile.new(tmp_path / "a.mrc", stack).close()
    path = (tmp_path / "a.mrc").rename(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(open_stack(str(path)).compute(), stack)
    (image,) = open_images(str(tmp_path), FixedGrey(range=(-100, 100)))
    assert (image.name, image.shape) == (path.name, (4, 20, 30))


@pytest.mark.parametrize("size", [3, 1000, 2000])
def test_a_damaged_mrc_file_is_named(tmp_path: Path, size: int) -> None:
    mrcfile.new(tmp_path / "a.mrc", GREY.astype(np.int16)).close()
    (tmp_path / "a.mrc").write_bytes((tmp_path / "a.mrc").read_bytes()[:size])
    with pytest.raises(DataError, match=r"a\.mrc: cannot be read"):
        open_stack(str(tmp_path / "a.mrc"))


def test_files_of_a_folder_that_are_not_read_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in "a.dm4", "b.dm4", "c.jp2":
        (tmp_path / name).write_bytes(b"something")
    with pytest.raises(DataError, match=r"there is no image in this folder; .* found 2 \.dm4, 1 \.jp2"):
        open_images(str(tmp_path), None)
    iio.imwrite(tmp_path / "a.png", GREY)
    assert len(open_images(str(tmp_path), None)) == 1
    assert "does not read 2 .dm4, 1 .jp2" in caplog.text


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_a_picture_with_the_suffix_of_tiff_is_named(tmp_path: Path, kind: str) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.TIF", format=kind)
    with pytest.raises(
        DataError, match=rf"a\.TIF: expected TIFF, found a {kind} file .* Rename it to \.{kind.lower()}"
    ):
        open_stack(str(tmp_path))


def test_a_reversed_range_inverts() -> None:
    pixels = np.array([[0, 50, 100, 200, 255]], np.uint8)
    assert as_grey(pixels, "a", (255, 0), 0).tolist() == [[255, 205, 155, 55, 0]]
    assert as_grey(pixels, "a", (200, 100), 0).tolist() == [[255, 255, 255, 0, 0]]
    assert as_grey(pixels, "a", (100, 200), 0).tolist() == [[0, 0, 0, 255, 255]]


def test_labels_keep_the_numbers_of_a_palette(tmp_path: Path) -> None:
    labels = GREY % 4
    picture = Image.fromarray(labels, "L")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.save(tmp_path / "a.png")
    colormap = np.random.default_rng(0).integers(0, 65536, (3, 256)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "b.tif", labels, photometric="palette", colormap=colormap)
    for name in "a.png", "b.tif":
        np.testing.assert_array_equal(open_labels(str(tmp_path / name)).compute()[0], labels)


def jpeg(path: Path, labels: NDArray[Any]) -> None:
    Image.fromarray(labels).save(path, quality=75)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("0.jpg", jpeg),
        ("0.png", lambda path, labels: Image.fromarray(labels).save(path, format="JPEG")),
        ("0.tif", lambda path, labels: tifffile.imwrite(path, labels, compression="jpeg")),
    ],
)
def test_jpeg_labels_are_refused(tmp_path: Path, name: str, write: Callable[[Path, NDArray[Any]], None]) -> None:
    disc = np.where(np.hypot(*np.mgrid[-16:16, -16:16]) < 9, np.uint8(255), np.uint8(0))
    for part in "images", "labels":
        (tmp_path / part).mkdir()
    iio.imwrite(tmp_path / "images/0.png", disc)
    write(tmp_path / "labels" / name, disc)
    volume = Volume(images="images", labels="labels", split={"train": "rest"})  # type: ignore[arg-type]
    with pytest.raises(DataError, match=rf"labels/{name}: expected labels in a format without loss, found JPEG"):
        check_volume(tmp_path, volume, None)


def test_binary_labels_with_many_values_are_refused(tmp_path: Path) -> None:
    rule = BinaryLabels(kind="binary", foreground=255)
    disc = np.hypot(*np.mgrid[-16:16, -16:16])
    iio.imwrite(tmp_path / "sharp.png", np.where(disc < 9, np.uint8(255), np.uint8(0)))
    iio.imwrite(tmp_path / "smooth.png", np.clip((12 - disc) * 60, 0, 255).astype(np.uint8))
    check_value("sharp.png", open_labels(str(tmp_path / "sharp.png")), rule)
    with pytest.raises(
        DataError, match=r"smooth\.png: expected binary labels, with one value .* found \d\d values from 0 to 255"
    ):
        check_value("smooth.png", open_labels(str(tmp_path / "smooth.png")), rule)
