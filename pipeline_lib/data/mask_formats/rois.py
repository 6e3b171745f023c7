"""Write regions for the ROI manager of Fiji and ImageJ: an archive for each image, with a region for each object."""

import re
from pathlib import Path

import numpy as np
import roifile
from numpy.typing import NDArray

from pipeline_lib.data.instances import Instances
from pipeline_lib.data.mask_formats.file_names import image_files
from pipeline_lib.data.mask_formats.mask_format import MaskFormat, MaskSet
from pipeline_lib.data.outlines import Polygon, Ring
from pipeline_lib.errors import DataError

LARGEST = 60_535  # pixels: largest coordinate of a region
MOVE, LINE, CLOSE = 0, 1, 4  # kinds of steps in java.awt.geom.PathIterator


def write_rois(masks: MaskSet, path: Path) -> None:
    """Write the regions of each image with objects. A region has the number and the label of its object as name.

    Args:
        masks: The masks.
        path: A folder that does not exist yet.

    Raises:
        DataError: An object has coordinates that are too large for a region of Fiji.
    """
    instances = masks.instances
    images = instances.prompts.images
    files = image_files(path, [image.name for image in images], ".zip")
    for image in images:
        slices = range(image.shape[0])
        regions = [
            _region(instances, image.name, number, z + 1 if len(slices) > 1 else 0)
            for z in slices
            for number in instances.in_slice(image.name, z)
        ]
        if regions:
            roifile.roiwrite(files[image.name], regions)


def _region(instances: Instances, image: str, number: int, position: int) -> roifile.ImagejRoi:
    """Return the region of an object; its position is the slice, counted from 1, or 0 if there is only one."""
    mask, label = instances.masks[number], str(instances.prompts.boxes.at[number, "label"])
    if max(mask.x1, mask.y1) > LARGEST:
        raise DataError(
            f"{image}: expected objects within the first {LARGEST} pixels, because regions of Fiji end there, but "
            f"object {number} lies beyond. Use --geojson"
        )
    region = region_of(instances.polygons(number))
    region.position = position
    region.name = re.sub(r"[/\\:]", "_", f"{number} {label}".strip())  # also the name of a file in the archive
    return region


def region_of(parts: list[Polygon]) -> roifile.ImagejRoi:
    """Return a region along the edges of pixels, as Fiji's wand makes it. With holes or parts it is a composite."""
    rings = [ring for part in parts for ring in (part.exterior, *part.holes)]
    corners = np.concatenate(rings)
    if len(rings) == 1:
        region = roifile.ImagejRoi.frompoints(rings[0])
        region.roitype = roifile.ROI_TYPE.TRACED
    else:
        steps = np.concatenate([_path(ring) for ring in rings])
        region = roifile.ImagejRoi(
            roitype=roifile.ROI_TYPE.RECT, shape_roi_size=len(steps), multi_coordinates=steps.astype(np.float32)
        )
    region.left, region.top = corners.min(axis=0).tolist()
    region.right, region.bottom = corners.max(axis=0).tolist()
    return region


def _path(ring: Ring) -> NDArray[np.int64]:
    """Return a ring as steps of a path in Java: kind, x and y of each step, and a step that closes the ring."""
    kinds = [MOVE] + [LINE] * (len(ring) - 1)
    return np.append(np.column_stack([kinds, ring]).ravel(), CLOSE)


ROIS = MaskFormat(name="rois", file="rois", program="Fiji", write=write_rois)
