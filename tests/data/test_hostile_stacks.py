"""Stacks with missing parts or misleading content are refused, and the error names the file."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from pipeline_lib.data.readers import check_whole, open_stack
from pipeline_lib.data.volumes import check_splits, check_volume
from pipeline_lib.errors import DataError
from pipeline_lib.settings.datasets import Volume

STACK = np.random.default_rng(0).integers(0, 256, (6, 20, 30), np.uint8)
LABELS = np.arange(1, 7, dtype=np.uint16)[:, None, None].repeat(20, 1).repeat(30, 2)
COMPANION = """<?xml version="1.0" encoding="UTF-8"?>
<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0">
<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="30" SizeY="20" SizeZ="2" SizeC="1"
 SizeT="1"><TiffData FirstZ="0" IFD="0" PlaneCount="1"><UUID FileName="first.ome.tif">urn:uuid:0</UUID></TiffData>
<TiffData FirstZ="1" IFD="0" PlaneCount="1"><UUID FileName="second.ome.tif">urn:uuid:1</UUID></TiffData>
</Pixels></Image></OME>"""


def ome_tiff(folder: Path) -> str:
    """Write one file of an OME-TIFF that has two."""
    tifffile.imwrite(folder / "first.ome.tif", STACK[0], description=COMPANION, metadata=None)
    return str(folder / "first.ome.tif")


def virtual(folder: Path) -> str:
    with h5py.File(folder / "part.h5", "w") as file:
        file["raw"] = STACK[:3]
    layout = h5py.VirtualLayout(STACK.shape, np.uint8)
    layout[:3] = h5py.VirtualSource(str(folder / "part.h5"), "raw", (3, *STACK.shape[1:]))
    with h5py.File(folder / "whole.h5", "w") as file:
        file.create_virtual_dataset("raw", layout)
    return f"{folder / 'whole.h5'}:raw"


def external(folder: Path) -> str:
    (folder / "pixels.raw").write_bytes(STACK.tobytes())
    with h5py.File(folder / "head.h5", "w") as file:
        place = [(str(folder / "pixels.raw"), 0, STACK.nbytes)]
        file.create_dataset("raw", STACK.shape, np.uint8, external=place)
    return f"{folder / 'head.h5'}:raw"


def linked(folder: Path) -> str:
    with h5py.File(folder / "whole.h5", "w") as file:
        file["raw"] = STACK
    with h5py.File(folder / "link.h5", "w") as file:
        file["raw"] = h5py.ExternalLink("whole.h5", "/raw")
    return f"{folder / 'link.h5'}:raw"


def white_is_zero(folder: Path) -> str:
    tifffile.imwrite(folder / "white.tif", STACK, photometric="miniswhite")
    return str(folder / "white.tif")


def white_is_zero_slices(folder: Path) -> str:
    for number, image in enumerate(STACK):
        (folder / "slices").mkdir(exist_ok=True)
        tifffile.imwrite(folder / f"slices/{number}.tif", image, photometric="miniswhite")
    return str(folder / "slices")


def palette(folder: Path) -> str:
    image = Image.fromarray(STACK[0] % 4).convert("P")
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(folder / "palette.png")
    return str(folder / "palette.png")


def fifo(folder: Path) -> str:
    os.mkfifo(folder / "pipe.tif")
    return str(folder / "pipe.tif")


def device(folder: Path) -> str:
    (folder / "zero.tif").symlink_to("/dev/zero")
    return str(folder / "zero.tif")


def complex_numbers(folder: Path) -> str:
    with h5py.File(folder / "complex.h5", "w") as file:
        file["raw"] = STACK.astype(np.complex64)
    return f"{folder / 'complex.h5'}:raw"


def words(folder: Path) -> str:
    with h5py.File(folder / "words.h5", "w") as file:
        file["raw"] = np.full(STACK.shape, b"a")
    return f"{folder / 'words.h5'}:raw"


def records(folder: Path) -> str:
    with h5py.File(folder / "records.h5", "w") as file:
        file["raw"] = np.zeros(STACK.shape, [("a", np.uint8), ("b", np.uint8)])
    return f"{folder / 'records.h5'}:raw"


def four_in_colour(folder: Path) -> str:
    tifffile.imwrite(folder / "four.tif", STACK[:4], photometric="rgb", planarconfig="separate", extrasamples=[0])
    return str(folder / "four.tif")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (ome_tiff, r"first\.ome\.tif: .*second\.ome\.tif"),
        (virtual, r"whole\.h5:raw: expected the pixels in this file, but they lie in other files"),
        (external, r"head\.h5:raw: expected the pixels in this file, but they lie in other files"),
        (linked, r"link\.h5:raw: expected the pixels in this file, but they lie in other files"),
        (white_is_zero, r"white\.tif: in this file, zero is white"),
        (white_is_zero_slices, r"slices/\d\.tif: in this file, zero is white"),
        (palette, r"palette\.png: expected grey values, but its numbers stand for colours of a palette"),
        (fifo, r"pipe\.tif: expected a file or folder"),
        (device, r"zero\.tif: expected a file or folder"),
        (complex_numbers, r"complex\.h5:raw: expected integers or real numbers, found complex64"),
        (words, r"words\.h5:raw: expected integers or real numbers"),
        (records, r"records\.h5:raw: expected integers or real numbers"),
        (four_in_colour, r"four\.tif: .*with photometric='minisblack'"),
    ],
)
def test_what_would_be_read_wrongly_is_refused(tmp_path: Path, write: Callable[[Path], str], message: str) -> None:
    path = write(tmp_path)
    with pytest.raises(DataError, match=message):
        open_stack(path).compute()


def test_a_second_name_of_an_hdf5_data_set_is_found(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "names.h5", "w") as file:
        file["raw"] = STACK
        file["volumes/images"] = file["raw"]
        file["soft"] = h5py.SoftLink("/raw")
    for name in ("raw", "volumes/images", "soft"):
        np.testing.assert_array_equal(open_stack(f"{tmp_path}/names.h5:{name}").compute(), STACK)


def test_a_png_of_plain_numbers_is_read(tmp_path: Path) -> None:
    iio.imwrite(tmp_path / "grey.png", STACK[0])
    np.testing.assert_array_equal(open_stack(str(tmp_path / "grey.png")).compute()[0], STACK[0])


class Volumes:
    """Two Zarr stacks and their volume."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, stack in (("images", STACK), ("labels", LABELS)):
            chunks = (1, *stack.shape[1:])
            zarr.create_array(folder / name, data=stack, chunks=chunks, config={"write_empty_chunks": True})
        self.volume = {"images": "images", "labels": "labels", "split": {"train": [0, 6]}}

    def check(self) -> dict:
        return check_volume(self.folder, Volume.model_validate(self.volume), None)


@pytest.mark.parametrize("name", ["images", "labels"])
def test_chunks_that_a_zarr_lacks_are_refused_unless_it_is_said_that_they_are_blank(tmp_path: Path, name: str) -> None:
    volumes = Volumes(tmp_path)
    volumes.check()
    (tmp_path / name / "c/2/0/0").unlink()
    with pytest.raises(
        DataError, match=f"{name}: 1 of 6 chunks are missing and would read as 0.*name the part in `missing_chunks`"
    ):
        volumes.check()
    volumes.volume["missing_chunks"] = [name]
    volumes.check()


def test_a_sharded_zarr_is_whole(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a", shape=(7, 13, 13), chunks=(1, 3, 3), shards=(5, 6, 6), dtype=np.uint8)
    array[:] = 1
    check_whole(str(tmp_path / "a"))
    (tmp_path / "a/c/1/2/2").unlink()
    with pytest.raises(DataError, match="1 of 18 chunks are missing"):
        check_whole(str(tmp_path / "a"))


def test_other_formats_have_no_chunks_to_look_for(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK)
    check_whole(str(tmp_path / "a.tif"))


def test_an_image_is_not_taken_for_labels(tmp_path: Path) -> None:
    volumes = Volumes(tmp_path)
    shutil.rmtree(tmp_path / "labels")
    shutil.copytree(tmp_path / "images", tmp_path / "labels")
    with pytest.raises(
        DataError, match=r"labels: expected numbers of objects.*paths of images and labels are exchanged"
    ):
        volumes.check()


def split_of(*parts: tuple[str, str, list[int]], folder: Path) -> list[dict]:
    """Return volumes of image stacks. The slices of a stack are in one split."""
    volumes = [{"images": images, "labels": images, "split": {split: bounds}} for images, split, bounds in parts]
    (folder / "l").mkdir(exist_ok=True)
    checked = []
    for volume in volumes:
        size = len(open_stack(str(folder / volume["images"])))
        zarr.create_array(folder / f"l/{len(checked)}", data=LABELS[:size], config={"write_empty_chunks": True})
        checked.append(check_volume(folder, Volume.model_validate(volume | {"labels": f"l/{len(checked)}"}), None))
    return checked


def test_a_copy_of_a_training_slice_is_not_tested(tmp_path: Path) -> None:
    for name in ("train", "test"):  # a blank slice first
        (tmp_path / name).mkdir()
        for number, image in enumerate(STACK[:3]):
            iio.imwrite(tmp_path / f"{name}/{number}.png", image if number else np.zeros_like(image))
    shutil.copy(tmp_path / "train/1.png", tmp_path / "test/2.png")
    check_splits(split_of(("train", "train", [0, 1]), ("test", "test", [0, 2]), folder=tmp_path))
    shutil.rmtree(tmp_path / "l")
    volumes = split_of(("train", "train", [0, 2]), ("test", "test", [1, 3]), folder=tmp_path)
    with pytest.raises(DataError, match=r"test: slice 1, which is in test, has the bytes of slice 1 of .*train"):
        check_splits(volumes)


def test_data_sets_of_one_hdf5_file_are_not_copies(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "both.h5", "w") as file:
        file["train/raw"], file["test/raw"] = STACK, STACK[::-1]
    parts = (("both.h5:train/raw", "train", [0, 4]), ("both.h5:test/raw", "test", [0, 4]))
    check_splits(split_of(*parts, folder=tmp_path))
