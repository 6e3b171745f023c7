"""Every format yields the stack that was written. Errors name the file."""

from pathlib import Path

import h5py
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from pipeline_lib.data.image_files import slice_files
from pipeline_lib.data.readers import open_stack
from pipeline_lib.errors import DataError

STACK = np.random.default_rng(0).integers(0, 60000, (5, 20, 30), np.uint16)


def same(path, stack=STACK):
    opened = open_stack(str(path))
    assert opened.chunks[0] == (1,) * len(stack)
    assert opened.chunksize[1:] == stack.shape[1:]
    assert opened.dtype == stack.dtype
    np.testing.assert_array_equal(opened.compute(), stack)
    return True


def write_pages(path, pages):
    """Write each page as a series, as a loop over the writer of tifffile does with compression."""
    with tifffile.TiffWriter(path) as writer:
        for page in pages:
            writer.write(page, compression="zlib")


def write_slices(folder, slices, suffix=".png"):
    folder.mkdir()
    for index, image in enumerate(slices):
        iio.imwrite(folder / f"{index:03}{suffix}", image)


def cut(path, share):
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[: int(share * len(data))])


def test_a_multi_page_tiff_is_a_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    assert same(tmp_path / "a.tif")


def test_a_compressed_tiff_with_an_upper_case_suffix_is_a_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.TIFF", STACK, compression="zlib")
    assert same(tmp_path / "a.TIFF")


def test_pages_written_one_by_one_are_a_stack(tmp_path):
    write_pages(tmp_path / "a.tif", STACK)
    assert same(tmp_path / "a.tif")


def test_an_imagej_hyperstack_is_a_stack(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "ZYX"})
    assert same(tmp_path / "a.tif")


def test_the_full_resolution_of_a_pyramid_is_the_stack(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif", ome=True) as writer:
        writer.write(STACK, subifds=1, metadata={"axes": "ZYX"})
        writer.write(STACK[:, ::2, ::2], subfiletype=1)
    assert same(tmp_path / "a.tif")


def test_a_single_image_is_a_stack_of_one_slice(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", STACK[0])
    assert same(tmp_path / "a.tif", STACK[:1])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_folder_of_slices_is_a_stack_in_the_order_of_names(tmp_path, suffix):
    write_slices(tmp_path / "slices", STACK, suffix)
    (tmp_path / "slices" / "notes.txt").write_text("not a slice")
    (tmp_path / "slices" / "._000.png").write_bytes(b"what macOS leaves behind")
    assert same(tmp_path / "slices")


def test_a_data_set_of_an_hdf5_file_is_a_stack(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = STACK
    assert same(f"{tmp_path}/a.h5:volumes/raw")


def test_a_two_dimensional_hdf5_data_set_is_one_slice(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = STACK[0]
    assert same(f"{tmp_path}/a.h5:raw", STACK[:1])


@pytest.mark.parametrize("version", [2, 3])
def test_a_zarr_array_is_a_stack_whatever_its_chunks(tmp_path, version):
    array = zarr.create_array(tmp_path / "a.zarr", data=STACK, chunks=(3, 8, 8), zarr_format=version)
    assert array.chunks == (3, 8, 8)
    assert same(tmp_path / "a.zarr")


def test_an_ome_zarr_image_with_time_and_channel_is_its_largest_array(tmp_path):
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("0", data=STACK[None, None])
    group.create_array("1", data=STACK[None, None, :, ::2, ::2])
    assert same(tmp_path / "a.zarr")


def test_opening_reads_no_slice(tmp_path):
    write_slices(tmp_path / "slices", STACK)
    stack = open_stack(str(tmp_path / "slices"))
    (tmp_path / "slices" / "000.png").unlink()
    np.testing.assert_array_equal(stack[1:].compute(), STACK[1:])
    with pytest.raises(DataError, match=r"000\.png"):
        stack[0].compute()


@pytest.mark.parametrize("name", ["a.tif", "a.h5:raw", "a.zarr", "slices"])
def test_a_missing_path_is_an_error(tmp_path, name):
    with pytest.raises(DataError, match=rf"{tmp_path}/{name.partition(':')[0]}: there is no such"):
        open_stack(f"{tmp_path}/{name}")


def test_an_unknown_format_is_an_error_that_lists_the_known_ones(tmp_path):
    (tmp_path / "a.dm4").write_bytes(b"something")
    with pytest.raises(DataError, match=r"a\.dm4: expected a TIFF file, a folder .* HDF5 .* Zarr.* DigitalMicrograph"):
        open_stack(str(tmp_path / "a.dm4"))


@pytest.mark.parametrize("name", ["a.tif", "a.h5:raw"])
def test_a_file_that_is_not_what_its_suffix_says_is_an_error(tmp_path, name):
    (tmp_path / name.partition(":")[0]).write_bytes(b"something else")
    with pytest.raises(DataError, match=name):
        open_stack(f"{tmp_path}/{name}")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("write", [tifffile.imwrite, write_pages], ids=["contiguous", "page by page"])
def test_a_truncated_tiff_never_passes_for_a_shorter_one(tmp_path, write, share):
    write(tmp_path / "a.tif", STACK)
    cut(tmp_path / "a.tif", share)
    with pytest.raises(DataError, match=r"a\.tif"):
        open_stack(str(tmp_path / "a.tif"))[-1].compute()


def test_a_tiff_cut_between_pages_is_an_error_that_names_it(tmp_path):
    write_pages(tmp_path / "a.tif", STACK)
    cut(tmp_path / "a.tif", 0.6)
    with pytest.raises(DataError, match=r"a\.tif: truncated"):
        open_stack(str(tmp_path / "a.tif"))


def test_a_truncated_slice_is_an_error_that_names_it(tmp_path):
    write_slices(tmp_path / "slices", STACK)
    cut(tmp_path / "slices" / "002.png", 0.5)
    with pytest.raises(DataError, match=r"002\.png"):
        open_stack(str(tmp_path / "slices")).compute()


def test_a_truncated_hdf5_file_is_an_error_that_names_it(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = STACK
    cut(tmp_path / "a.h5", 0.5)
    with pytest.raises(DataError, match=r"a\.h5"):
        open_stack(f"{tmp_path}/a.h5:raw")


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("slices", [1, 4])
def test_an_rgb_tiff_is_an_error(tmp_path, planar, slices):
    shape = {"contig": (slices, 20, 30, 3), "separate": (slices, 3, 20, 30)}[planar]
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=planar)
    with pytest.raises(DataError, match=r"a\.tif: expected grey slices.* colour"):
        open_stack(str(tmp_path / "a.tif"))


@pytest.mark.parametrize("channels", [3, 4])
def test_grey_slices_saved_in_colour_are_read(tmp_path, channels):
    slices = np.random.default_rng(0).integers(0, 256, (2, 20, 30), dtype=np.uint8)
    coloured = np.stack([slices] * 3 + [np.full_like(slices, 255)] * (channels - 3), axis=-1)
    write_slices(tmp_path / "slices", coloured)
    stack = open_stack(str(tmp_path / "slices"))
    assert stack.shape == slices.shape
    np.testing.assert_array_equal(stack.compute(), slices)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_folder_of_colour_slices_is_an_error(tmp_path, channels):
    slices = np.zeros((2, 20, 30, channels), np.uint8)
    slices[1, 3, 4, 2] = 1
    write_slices(tmp_path / "slices", slices)
    with pytest.raises(DataError, match=r"001\.png: expected grey slices.* colour"):
        open_stack(str(tmp_path / "slices")).compute()


def test_a_single_colour_image_in_hdf5_is_an_error(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(DataError, match=r"a\.h5:raw: expected grey slices"):
        open_stack(f"{tmp_path}/a.h5:raw")


def test_slices_of_two_shapes_are_an_error_that_names_one_of_each(tmp_path):
    write_slices(tmp_path / "slices", [STACK[0], STACK[1], STACK[2, 1:]])
    with pytest.raises(DataError, match=r"\(20, 30\) uint16 in 000\.png") as error:
        open_stack(str(tmp_path / "slices"))
    assert "(19, 30) uint16 in 002.png" in str(error.value)


def test_pages_of_two_shapes_are_an_error(tmp_path):
    write_pages(tmp_path / "a.tif", [STACK[0], STACK[1, 1:]])
    with pytest.raises(DataError, match=r"a\.tif: expected pages with one shape"):
        open_stack(str(tmp_path / "a.tif"))


def test_a_folder_without_slices_is_an_error(tmp_path):
    with pytest.raises(DataError, match="there are no PNG, JPEG, TIFF or BMP slices"):
        open_stack(str(tmp_path))


@pytest.mark.parametrize("name", ["a.h5", "a.h5:", "a.h5:volumes", "a.h5:labels"])
def test_an_unnamed_hdf5_data_set_is_an_error_that_lists_what_there_is(tmp_path, name):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = STACK
    with pytest.raises(DataError, match=r"expected the name of a data set .* the file has volumes/raw"):
        open_stack(f"{tmp_path}/{name}")


def test_a_zarr_group_that_is_no_image_is_an_error_that_lists_what_there_is(tmp_path):
    zarr.create_group(tmp_path / "a.zarr").create_array("raw", data=STACK)
    with pytest.raises(DataError, match=r"a\.zarr: .* a group of raw"):
        open_stack(str(tmp_path / "a.zarr"))


def test_an_empty_stack_is_an_error(tmp_path):
    zarr.create_array(tmp_path / "a.zarr", data=STACK[:0], chunks=(1, 20, 30))
    with pytest.raises(DataError, match="at least one slice"):
        open_stack(str(tmp_path / "a.zarr"))


def test_numbers_in_names_count_as_numbers(tmp_path):
    folder = tmp_path / "slices"
    folder.mkdir()
    for number in (1, 2, 10):
        iio.imwrite(folder / f"s{number}.png", np.full((5, 6), number, np.uint8))
    assert open_stack(str(folder))[:, 0, 0].compute().tolist() == [1, 2, 10]


def test_pictures_of_any_size_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name in "a.png", "a.jpg", "a.bmp":
        Image.new("L", (30, 20), 7).save(tmp_path / name)
        assert (open_stack(str(tmp_path / name)).compute() == 7).all()
    assert Image.MAX_IMAGE_PIXELS == 10


def test_digits_of_any_kind_in_names_are_sorted(tmp_path: Path) -> None:
    for name in "10²3.png", "9²3.png":
        (tmp_path / name).touch()
    assert [file.name for file in slice_files(tmp_path)] == ["9²3.png", "10²3.png"]
