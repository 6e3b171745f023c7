"""Stage label_tiffs: label images as Fiji opens them, where somebody asks for them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from tifffile import TiffWriter
from tqdm import tqdm

from pipeline_lib.data.ome_zarr import OBJECTS
from pipeline_lib.errors import DataError
from pipeline_lib.runtime.atomic import atomic

MOST = {
    16: 2**16,
    32: 2**24,
}  # bits of a pixel, and the numbers that it can hold: ImageJ has 16-bit integers and floats


def label_tiffs(*, labels: str, tiffs: str) -> None:
    """Write each image's label image as an ImageJ TIFF of its name, a page for each slice.

    Args:
        labels: OME-Zarr of the stage collect.
        tiffs: folder to write.

    Raises:
        DataError: more objects than ImageJ can tell apart, 2²⁴.
    """
    record: Any = zarr.open_group(labels, path="OME", mode="r").attrs["ome"]
    stems = Counter(Path(name).stem for name in record["series"])
    with atomic(tiffs) as folder:
        folder.mkdir(parents=True)
        for name in tqdm(record["series"], "label_tiffs", mininterval=10):
            array = zarr.open_array(Path(labels) / name / "labels" / OBJECTS / "0", mode="r")
            own = Path(name).stem if stems[Path(name).stem] == 1 else name
            _write(folder / f"{own}.tif", array, f"{labels}/{name}")


def _write(path: Path, array: zarr.Array[Any], name: str) -> None:
    largest = max(int(np.asarray(array[z]).max()) for z in range(array.shape[0]))
    if largest >= MOST[32]:
        raise DataError(f"{name}: {largest} objects, but ImageJ can tell only {MOST[32]} apart; use labels.zarr")
    dtype = np.uint16 if largest < MOST[16] else np.float32
    with TiffWriter(path, imagej=True) as file:
        pages = (np.asarray(array[z], dtype) for z in range(array.shape[0]))
        file.write(pages, shape=array.shape, dtype=dtype, metadata={"axes": "ZYX"})
