"""Write GeoJSON (RFC 7946) with QuPath's properties: a file for each image, with an annotation for each object."""

import json
from pathlib import Path
from typing import Any

from pipeline_lib.data.mask_formats.file_names import image_files
from pipeline_lib.data.mask_formats.mask_format import MaskFormat, MaskSet
from pipeline_lib.data.outlines import Ring


def write_geojson(masks: MaskSet, path: Path) -> None:
    """Write the objects of each image as a collection of features, in pixels of the image.

    The name of an annotation is the number of its object. It has the class of the object, and the predicted IoU as a
    measurement. In a stack, `plane` is the slice, counted from 0 as in QuPath.

    Args:
        masks: The masks.
        path: A folder that does not exist yet.
    """
    images = masks.instances.prompts.images
    files = image_files(path, [image.name for image in images], ".geojson")
    for image in images:
        slices = range(image.shape[0])
        features = [
            _feature(masks, number, z if len(slices) > 1 else None)
            for z in slices
            for number in masks.instances.in_slice(image.name, z)
        ]
        text = json.dumps({"type": "FeatureCollection", "features": features})
        files[image.name].write_text(text + "\n", encoding="utf-8")


def _feature(masks: MaskSet, number: int, z: int | None) -> dict[str, Any]:
    instances = masks.instances
    label = str(instances.prompts.boxes.at[number, "label"])
    parts = [[_closed(ring) for ring in (part.exterior, *part.holes)] for part in instances.polygons(number)]
    whole = {"type": "Polygon", "coordinates": parts[0]}
    return {
        "type": "Feature",
        "geometry": {
            **(whole if len(parts) == 1 else {"type": "MultiPolygon", "coordinates": parts}),
            **({} if z is None else {"plane": {"c": -1, "z": z, "t": 0}}),
        },
        "properties": {
            "objectType": "annotation",
            "name": str(number),
            **({"classification": {"name": label}} if label else {}),
            "measurements": {"Predicted IoU": round(instances.masks[number].predicted_iou, 4)},
        },
    }


def _closed(ring: Ring) -> list[list[int]]:
    """Return the corners of a ring, with the first one repeated at the end."""
    corners: list[list[int]] = ring.tolist()
    return [*corners, corners[0]]


GEOJSON = MaskFormat(name="geojson", file="geojson", program="QuPath", write=write_geojson)
