"""Label images with a pyramid are opened with the readers that people use."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import zarr
from helpers.napari import in_napari
from ome_zarr_models.v05.bioformats2raw import BioFormats2Raw
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel

from pipeline_lib.data.mask_formats import ome_zarr
from pipeline_lib.data.mask_formats.ome_zarr import level_count, write_collection, write_image
from pipeline_lib.stages.label_tiffs import label_tiffs

SHAPE = (2, 70, 101)
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, SHAPE, dtype=np.uint8)
OBJECTS = np.repeat(np.repeat(RNG.integers(0, 9, (2, 35, 51)), 2, axis=1), 2, axis=2)[:, :, :101].astype(np.uint32)
READ = """
from napari_ome_zarr import napari_get_reader
layers = napari_get_reader(given["path"])(given["path"])
print(json.dumps([
    {"kind": kind, "name": settings.get("name"), "shapes": [list(level.shape) for level in data],
     "sum": int(data[0].sum().compute()), "scale": [float(x) for x in settings.get("scale", [])]}
    for data, settings, kind in layers
]))
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a set of one image, in small blocks and with a deep pyramid."""
    monkeypatch.setattr(ome_zarr, "CHUNK", 32)
    monkeypatch.setattr(ome_zarr, "SMALLEST", 30)
    write_collection(tmp_path / "labels.zarr", {"a.tif": SHAPE})
    folder = tmp_path / "labels.zarr" / "a.tif"
    write_image(folder, SHAPE, lambda z, y, x: PIXELS[z, y, x], lambda z, y, x: OBJECTS[z, y, x], [50, 4, 4])
    return folder


def test_levels_halve(written: Path) -> None:
    assert [level_count((1, side, 9)) for side in (30, 31, 60, 61, 480)] == [1, 2, 2, 3, 5]  # of 30 pixels here
    shapes = [zarr.open_array(written / str(level)).shape for level in range(3)]
    assert shapes == [(2, 70, 101), (2, 35, 50), (2, 17, 25)]
    np.testing.assert_array_equal(zarr.open_array(written / "0")[:], PIXELS)
    labels = written / "labels/objects"
    np.testing.assert_array_equal(zarr.open_array(labels / "0")[:], OBJECTS)
    np.testing.assert_array_equal(zarr.open_array(labels / "1")[:], OBJECTS[:, ::2, ::2][:, :35, :50])
    halved = PIXELS[:, :70, :100].reshape(2, 35, 2, 50, 2).mean(axis=(2, 4)).round()
    np.testing.assert_array_equal(zarr.open_array(written / "1")[:], halved)


def test_the_models_of_the_format_accept_it(written: Path) -> None:
    image = Image.from_zarr(zarr.open_group(written, mode="r"))
    assert len(image.ome_attributes.multiscales[0].datasets) == 3
    ImageLabel.from_zarr(zarr.open_group(written, path="labels/objects", mode="r"))


def test_naparis_reader_opens_image_and_labels(written: Path) -> None:
    image, labels = in_napari(READ, {"path": str(written)})
    assert (image["kind"], labels["kind"]) == ("image", "labels")
    assert image["shapes"] == labels["shapes"] == [[2, 70, 101], [2, 35, 50], [2, 17, 25]]
    assert labels["sum"] == OBJECTS.sum()
    assert image["scale"] == [50, 4, 4]


def test_naparis_reader_opens_all_images_at_the_root(tmp_path: Path) -> None:
    names = ["a & b.tif", "folder/c.png"]
    write_collection(tmp_path / "labels.zarr", dict.fromkeys(names, SHAPE))
    for name in names:
        write_image(
            tmp_path / "labels.zarr" / name,
            SHAPE,
            lambda z, y, x: PIXELS[z, y, x],
            lambda z, y, x: OBJECTS[z, y, x],
            [50, 4, 4],
        )
    layers = in_napari(READ, {"path": str(tmp_path / "labels.zarr")})
    assert [(layer["kind"], layer["sum"]) for layer in layers] == 2 * [
        ("image", PIXELS.sum()),
        ("labels", OBJECTS.sum()),
    ]
    group = zarr.open_group(tmp_path / "labels.zarr", mode="r")
    assert BioFormats2Raw.from_zarr(group).ome_attributes.bioformats2raw_layout == 3
    xml = ElementTree.parse(tmp_path / "labels.zarr/OME/METADATA.ome.xml")
    ome = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"
    assert [image.get("Name") for image in xml.iter(f"{ome}Image")] == names
    assert [[int(pixels.get(f"Size{axis}", 0)) for axis in "ZYX"] for pixels in xml.iter(f"{ome}Pixels")] == 2 * [
        list(SHAPE)
    ]


def test_images_of_one_stem_have_a_tiff_each(tmp_path: Path) -> None:
    names = ["a.png", "a.tif", "b.png"]
    write_collection(tmp_path / "labels.zarr", dict.fromkeys(names, SHAPE))
    for name in names:
        write_image(
            tmp_path / "labels.zarr" / name,
            SHAPE,
            lambda z, y, x: PIXELS[z, y, x],
            lambda z, y, x: OBJECTS[z, y, x],
            None,
        )
    label_tiffs(labels=str(tmp_path / "labels.zarr"), tiffs=str(tmp_path / "tiffs"))
    assert sorted(file.name for file in (tmp_path / "tiffs").iterdir()) == ["a.png.tif", "a.tif.tif", "b.tif"]


def test_fiji_opens_the_label_images_as_a_stack(written: Path, tmp_path: Path) -> None:
    label_tiffs(labels=str(written.parent), tiffs=str(tmp_path / "tiffs"))
    with tifffile.TiffFile(tmp_path / "tiffs/a.tif") as file:
        assert file.is_imagej
        assert file.series[0].axes == "ZYX"
        np.testing.assert_array_equal(file.asarray(), OBJECTS)
