"""Regions for the ROI manager of Fiji and ImageJ: a region for each object, an archive for each image."""

import re
from pathlib import Path

import numpy as np
import roifile

from pipeline_lib.data.mask_formats.file_names import file_stems
from pipeline_lib.data.mask_formats.mask_format import MaskFormat, MaskSet
from pipeline_lib.data.outlines import Polygon, Ring
from pipeline_lib.errors import DataError

LARGEST = 60_535  # pixels: a region cannot lie beyond
MOVE, LINE, CLOSE = 0, 1, 4  # steps of java.awt.geom.PathIterator


def write_rois(masks: MaskSet, path: Path) -> None:
    """Write the objects of each image that has some. A region's name is the number and the label of its object.

    Args:
        masks: The masks.
        path: A folder that does not exist yet.

    Raises:
        DataError: An object lies where Fiji's regions cannot.
    """
    instances = masks.instances
    path.mkdir(parents=True)
    images = instances.given.images
    stems = file_stems([image.name for image in images])
    for image in images:
        regions = []
        for z in range(image.shape[0]):
            for number in instances.in_slice(image.name, z):
                if max(instances.masks[number].x1, instances.masks[number].y1) > LARGEST:
                    raise DataError(
                        f"{image.name}: object {number} lies beyond pixel {LARGEST}, the last one that a region of "
                        "Fiji can reach; use --geojson"
                    )
                region = region_of(instances.polygons(number))
                label = str(instances.given.boxes.at[number, "label"])
                region.name = re.sub(
                    r"[/\\:]", "_", f"{number} {label}".strip()
                )  # which its file in the archive has, too
                region.position = z + 1 if image.shape[0] > 1 else 0
                regions.append(region)
        if regions:
            roifile.roiwrite(path / f"{stems[image.name]}.zip", regions)


def region_of(parts: list[Polygon]) -> roifile.ImagejRoi:
    """Return a region along the edges of pixels, as Fiji's wand makes it; with holes or parts it is a composite."""
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


def _path(ring: Ring) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return a ring as steps of a path in Java: kind, x and y of each, and one that closes it."""
    kinds = [MOVE] + [LINE] * (len(ring) - 1)
    return np.append(np.column_stack([kinds, ring]).ravel(), CLOSE)


ROIS = MaskFormat(name="rois", file="rois", program="Fiji", write=write_rois)
