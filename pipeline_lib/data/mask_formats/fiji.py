"""Convert the OME-Zarr of label images to TIFF files for Fiji and ImageJ."""

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from tifffile import TiffWriter
from tqdm import tqdm

from pipeline_lib.data.mask_formats.file_names import image_files
from pipeline_lib.data.mask_formats.mask_format import MaskFormat
from pipeline_lib.data.mask_formats.ome_zarr import OBJECTS
from pipeline_lib.errors import DataError

COUNTS = {16: 2**16, 32: 2**24}  # how many numbers ImageJ can tell apart, by bits of a pixel; 32 bits are a float


def write_label_tiffs(labels: Path, path: Path) -> None:
    """Write each label image as an ImageJ TIFF with the name of its image, a page for each slice.

    Args:
        labels: The OME-Zarr that `write_label_images` wrote.
        path: A folder that does not exist yet.

    Raises:
        DataError: An image has 2²⁴ objects or more, which ImageJ cannot tell apart.
    """
    record: Any = zarr.open_group(labels, path="OME", mode="r").attrs["ome"]
    files = image_files(path, record["series"], ".tif")
    for name, file in tqdm(files.items(), "label_tiffs", mininterval=10):
        array = zarr.open_array(labels / name / "labels" / OBJECTS / "0", mode="r")
        _write(file, array, f"{labels}/{name}")


def _write(path: Path, array: zarr.Array[Any], name: str) -> None:
    largest = max(int(np.asarray(array[z]).max()) for z in range(array.shape[0]))
    if largest >= COUNTS[32]:
        raise DataError(
            f"{name}: expected fewer than {COUNTS[32]} objects, because ImageJ cannot tell more apart; found "
            f"{largest}. Use labels.zarr"
        )
    dtype = np.uint16 if largest < COUNTS[16] else np.float32
    with TiffWriter(path, imagej=True) as file:
        pages = (np.asarray(array[z], dtype) for z in range(array.shape[0]))
        file.write(pages, shape=array.shape, dtype=dtype, metadata={"axes": "ZYX"})


LABEL_TIFFS = MaskFormat(name="tiffs", file="label_tiffs", program="Fiji", write=write_label_tiffs)
