"""Make the metadata of OME-Zarr 0.5 for the store of a data set and for label images.

Specification: https://ngff.openmicroscopy.org/0.5/. LooseBox writes the metadata without a library: ome-zarr 0.18
cannot be installed beside today's fsspec, and ngff-zarr brings a WebAssembly runtime. LooseBox needs only a JSON record
and the halving of images. Tests compare both with ome-zarr-models and with napari's reader.
"""

from collections.abc import Sequence
from typing import Any

AXES = ("z", "y", "x")
VERSION = "0.5"


def multiscale(name: str, pixel_size: Sequence[float] | None, levels: int = 1) -> dict[str, Any]:
    """Return the metadata of an image with the arrays `0`, `1`, …, each with half the height and width of the last.

    Args:
        name: Name of the image.
        pixel_size: ZYX, nanometres. None writes a size of 1 without a unit.
        levels: Number of arrays.
    """
    unit = {} if pixel_size is None else {"unit": "nanometer"}
    z, y, x = (1.0, 1.0, 1.0) if pixel_size is None else map(float, pixel_size)
    datasets = [
        {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": [z, y * 2**level, x * 2**level]}]}
        for level in range(levels)
    ]
    axes = [{"name": axis, "type": "space", **unit} for axis in AXES]
    return {"version": VERSION, "multiscales": [{"name": name, "axes": axes, "datasets": datasets}]}
