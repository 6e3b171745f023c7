"""Files of the VGG Image Annotator (VIA) 1 and 2: JSON and CSV. Projects of VIA 3 are only recognised.

https://www.robots.ox.ac.uk/~vgg/software/via
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline_lib.data.box_formats.box_file import BoxFile, first_text
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Entries, Images
from pipeline_lib.data.box_formats.record import NO_BOX, BoxRecord, bounds, corners, number, turned_ellipse
from pipeline_lib.data.box_formats.rows import xywh

PROJECT_3 = {"project", "config", "view", "metadata"}  # keys of a project of VIA 3
IMAGE_KEYS = {"filename", "size", "regions"}  # of each image
SHAPE = "region_shape_attributes"


def _is_json(file: BoxFile) -> bool:
    images = list(_images(file).values()) if file.json_keys else []
    return "_via_img_metadata" in file.json_keys or (
        bool(images) and isinstance(images[0], dict) and set(images[0]) >= IMAGE_KEYS
    )


def _images(file: BoxFile) -> Mapping[str, Any]:
    images: Mapping[str, Any] = file.json.get("_via_img_metadata", file.json)
    return images


def _read_json(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Read the bounds of each region; points and lines are skipped.

    Raises:
        DataError: two entries are of one image.
    """
    entries = Entries()
    for number_of_image, entry in enumerate(_images(file).values()):
        called = entry["filename"]
        entries.add(images.find(called), called, f"{file.path}: image {number_of_image}")
        regions = entry["regions"]
        regions = list(regions.values()) if isinstance(regions, dict) else regions  # of VIA 1
        for index, region in enumerate(regions):
            where = f"{file.path}: image {number_of_image}, region {index}"
            yield _record(called, region["shape_attributes"], region["region_attributes"], images, where)


def _is_csv(file: BoxFile) -> bool:
    return SHAPE in file.table.columns


def _read_csv(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Read a region from each row; the row of an image without regions has an empty one."""
    for line, row in file.table.rows:
        shape = json.loads(first_text(row, (SHAPE,)) or "{}")
        called = first_text(row, ("#filename", "filename"))
        attributes = json.loads(first_text(row, ("region_attributes",)) or "{}")
        if shape:
            yield _record(called, shape, attributes, images, f"{file.path}:{line}")


def _record(
    called: str, shape: Mapping[str, Any], attributes: Mapping[str, Any], images: Images, where: str
) -> BoxRecord:
    box, kind = _box(shape), shape["name"]
    return BoxRecord(
        image=images.find(called),
        **(box or NO_BOX),
        where=where,
        label=_label(attributes),
        called=called,
        skip="" if box else f"a region of the type {kind} encloses no area",
    )


def _box(shape: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the bounds of a region; None of a point or a line."""
    values = {key: number(value) for key, value in shape.items() if not isinstance(value, list)}
    match shape["name"]:
        case "rect":
            return xywh(values["x"], values["y"], values["width"], values["height"])
        case "circle":
            x, y, radius = values["cx"], values["cy"], values["r"]
            return corners(x - radius, y - radius, x + radius, y + radius)
        case "ellipse":
            turn = math.degrees(values.get("theta", 0.0))
            return turned_ellipse(values["cx"], values["cy"], values["rx"], values["ry"], turn)
        case "polygon":
            return bounds(list(zip(shape["all_points_x"], shape["all_points_y"], strict=True)))
        case _:
            return None


def _label(attributes: Mapping[str, Any]) -> str:
    """Return the class of a region: its only attribute with a text, or the one that is called so."""
    texts = {key: value for key, value in attributes.items() if isinstance(value, str) and value}
    named = [texts[key] for key in ("class", "label", "type", "name") if key in texts]
    return next(iter([*named, *(texts.values() if len(texts) == 1 else [])]), "")


VIA = BoxFormat(
    name="via",
    title="VIA",
    program="VGG Image Annotator",
    suffixes=(".json",),
    content="a JSON object with the key _via_img_metadata",
    matches=_is_json,
    outline=BoxFile.json_outline,
    read=_read_json,
)
VIA_CSV = BoxFormat(
    name="via",
    title="VIA table",
    program="VGG Image Annotator",
    suffixes=(".csv",),
    content=f"the column {SHAPE}",
    matches=_is_csv,
    outline=BoxFile.table_outline,
    read=_read_csv,
)
VIA_3 = BoxFormat(
    name="via",
    title="VIA 3",
    program="VGG Image Annotator",
    suffixes=(".json",),
    content="a JSON object with the keys project, config, view and metadata",
    matches=lambda file: file.json_keys >= PROJECT_3,
    outline=BoxFile.json_outline,
    instead="export the annotations from VIA in COCO format",
)
