"""Read LabelMe: a JSON file for each image, whose shapes have points in pixels.

https://github.com/wkentaro/labelme
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, bounds, corners, number

AREAS = {"rectangle", "polygon", "rotation", "mask"}  # types of shapes whose points bound an area


def _matches(file: BoxFile) -> bool:
    return "shapes" in file.json_keys and not file.json_keys.isdisjoint({"imagePath", "imageHeight", "flags"})


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the bounding box of each shape. Points and lines are skipped.

    Raises:
        DataError: The image has another size.
    """
    called = str(file.json.get("imagePath") or "")
    image = images.find(called) if called else images.of_file(file.path)
    images.check_size(image, file.json.get("imageWidth"), file.json.get("imageHeight"), str(file.path))
    for index, shape in enumerate(file.json["shapes"]):
        kind = shape.get("shape_type") or "polygon"  # the first versions only had polygons
        yield BoxRecord(
            image=image,
            **_box(kind, shape),
            where=f"{file.path}: shape {index}",
            label=str(shape.get("label") or ""),
            score=number(shape.get("score")),
            called=called,
            skip="" if kind in {"circle", *AREAS} else f"a shape of the type {kind} encloses no area",
        )


def _box(kind: str, shape: Mapping[str, Any]) -> dict[str, Any]:
    if kind != "circle":
        return bounds(shape["points"])
    (x, y), (edge_x, edge_y) = shape["points"]  # the centre, and a point on the circle
    radius = math.dist((x, y), (edge_x, edge_y))
    return corners(x - radius, y - radius, x + radius, y + radius)


LABELME = BoxFormat(
    name="labelme",
    title="LabelMe",
    program="labelme, X-AnyLabeling",
    suffixes=(".json",),
    content="a JSON object with the keys shapes and imagePath",
    matches=_matches,
    outline=BoxFile.json_outline,
    read=_read,
)
