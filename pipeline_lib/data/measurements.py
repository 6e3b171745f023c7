"""Measure the size, shape and grey values of objects, as scikit-image defines them.

An object is its whole mask in one slice. Its parts are measured together, and holes do not belong to it. If an object
reaches the border of its image, only the part within the image is measured. Its edge along the border belongs to the
perimeter.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import regionprops

from pipeline_lib.data.masks import Mask

PROPERTIES = {  # properties of regions in scikit-image, by the name of the measurement in pixels
    "area": "area",
    "perimeter": "perimeter_crofton",
    "equivalent_diameter": "equivalent_diameter_area",
    "major_axis": "axis_major_length",
    "minor_axis": "axis_minor_length",
}
IN_PIXELS = list(PROPERTIES)
WITHOUT_LENGTH = ["orientation_deg", "circularity", "grey_mean_8bit", "grey_std_8bit"]
IN_NANOMETRES = [f"{name}_nm2" if name == "area" else f"{name}_nm" for name in PROPERTIES]


def columns(pixel_size: Sequence[float] | None) -> list[str]:
    """Return the names of all measurements. Those in nanometres are left out if the size of a pixel is not known."""
    return IN_PIXELS + WITHOUT_LENGTH + (IN_NANOMETRES if pixel_size else [])


def measurements(mask: Mask, grey: NDArray[np.uint8], pixel_size: Sequence[float] | None) -> dict[str, float]:
    """Measure an object in one slice.

    Args:
        mask: YX. It can be cut to the bounding box of the object.
        grey: YX, grey values of the same pixels.
        pixel_size: ZYX, nanometres; None leaves out the measurements in nanometres.

    Returns:
        A value for each of `columns`. If the mask has no pixel, areas are 0 and all other values are NaN. Perimeters in
        nanometres are NaN if pixels are not square.
    """
    if not mask.any():
        return {name: 0.0 if name.startswith("area") else np.nan for name in columns(pixel_size)}
    (region,) = regionprops(mask.astype(np.uint8), intensity_image=grey)
    values = _sizes(region, IN_PIXELS)
    values |= {
        # scikit-image measures the angle from the axis of rows. Here it is from the axis of columns, as in Fiji
        "orientation_deg": (np.degrees(region.orientation) + 90) % 180,
        "circularity": 4 * np.pi * values["area"] / values["perimeter"] ** 2,
        "grey_mean_8bit": region.intensity_mean,
        "grey_std_8bit": region.intensity_std,
    }
    if pixel_size is None:
        return values
    _, height, width = pixel_size
    if height == width:
        sides = [height**2 if name.startswith("area") else height for name in IN_PIXELS]
        return values | {
            name: values[in_pixels] * side
            for name, in_pixels, side in zip(IN_NANOMETRES, IN_PIXELS, sides, strict=True)
        }
    (region,) = regionprops(mask.astype(np.uint8), spacing=(height, width))
    return values | _sizes(region, IN_NANOMETRES, without="perimeter_crofton")


def _sizes(region: Any, names: Sequence[str], without: str = "") -> dict[str, float]:
    """Return the properties of a region by the names of measurements. The property `without` is NaN."""
    return {
        name: np.nan if property == without else float(region[property])
        for name, property in zip(names, PROPERTIES.values(), strict=True)
    }
