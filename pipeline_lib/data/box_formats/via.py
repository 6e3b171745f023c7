"""Read files of the VGG Image Annotator (VIA): JSON and CSV of VIA 1 and 2, and projects of VIA 3.

https://www.robots.ox.ac.uk/~vgg/software/via
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pipeline_lib.data.box_formats.box_file import BoxFile, first_text
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Entries, Images
from pipeline_lib.data.box_formats.record import NO_BOX, BoxRecord, bounds, bounds_of_ellipse, corners, number
from pipeline_lib.data.box_formats.rows import xywh
from pipeline_lib.errors import DataError

PROJECT_3 = {"project", "config", "view", "metadata"}  # keys of a project of VIA 3
COORDINATES_3 = {  # shapes of VIA 3 by number: the name of the shape and of its coordinates in VIA 2
    2: ("rect", ("x", "y", "width", "height")),
    3: ("circle", ("cx", "cy", "r")),
    4: ("ellipse", ("cx", "cy", "rx", "ry")),
}
POLYGONS_3 = {7, 8}  # polygons, and rectangles with a point on each edge
OTHERS_3 = {1: "point", 5: "line", 6: "polyline", 9: "extreme circle"}
IMAGE_3 = 2  # value of `type` if a file is an image
WITH_PATH_3 = (2, 3)  # values of `loc` for which `src` is the path of the file
IMAGE_KEYS = {"filename", "size", "regions"}  # keys of an image
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
    """Yield the bounding box of each region. Points and lines are skipped.

    Raises:
        DataError: Two entries belong to one image.
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
    """Yield the bounding box of each row. The row of an image without regions has no shape."""
    for line, row in file.table.rows:
        shape = json.loads(first_text(row, (SHAPE,)) or "{}")
        called = first_text(row, ("#filename", "filename"))
        attributes = json.loads(first_text(row, ("region_attributes",)) or "{}")
        if shape:
            yield _record(called, shape, attributes, images, f"{file.path}:{line}")


def _read_project(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the bounding box of each region of a project of VIA 3. Points and lines are skipped.

    Raises:
        DataError: A view shows several files or a video, or two views show one image.
    """
    project, entries = file.json, Entries()
    for view, key in enumerate(project["view"]):
        called = _image_of_view(project, key, f"{file.path}: view {view}")
        entries.add(images.find(called), called, f"{file.path}: view {view}")
    for index, region in enumerate(project["metadata"].values()):
        if not region["xy"]:  # an attribute of the whole image
            continue
        where = f"{file.path}: region {index}"
        called = _image_of_view(project, region["vid"], where)
        yield _record(called, _shape_of(region["xy"]), _attributes(project, region["av"]), images, where)


def _image_of_view(project: Mapping[str, Any], view: str, where: str) -> str:
    files = [project["file"][str(key)] for key in project["view"][str(view)]["fid_list"]]
    if len(files) != 1 or files[0]["type"] != IMAGE_3:
        raise DataError(f"{where}: expected a view of one image; export the annotations from VIA in COCO format")
    return str(files[0]["src"] if files[0]["loc"] in WITH_PATH_3 and files[0]["src"] else files[0]["fname"])


def _shape_of(numbers: Sequence[float]) -> dict[str, Any]:
    """Return the shape of a region of VIA 3 as VIA 2 writes it.

    Args:
        numbers: Number of the kind of shape, then coordinates in pixels.
    """
    kind, values = int(numbers[0]), numbers[1:]
    if kind in POLYGONS_3:
        return {"name": "polygon", "all_points_x": values[::2], "all_points_y": values[1::2]}
    if kind in COORDINATES_3:
        name, coordinates = COORDINATES_3[kind]
        return {"name": name, **dict(zip(coordinates, values, strict=True))}
    return {"name": OTHERS_3.get(kind, f"number {kind}")}


def _attributes(project: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of a region by name. The text of an option replaces its number."""
    attributes = {key: each for key, each in project["attribute"].items() if key in values}
    return {
        each["aname"]: (each.get("options") or {}).get(values[key], values[key]) for key, each in attributes.items()
    }


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
        skip="" if box else f"a region of the type {kind} is not read as a box",
    )


def _box(shape: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the bounding box of a region; None for a point or a line."""
    values = {key: number(value) for key, value in shape.items() if not isinstance(value, list)}
    match shape["name"]:
        case "rect":
            return xywh(values["x"], values["y"], values["width"], values["height"])
        case "circle":
            x, y, radius = values["cx"], values["cy"], values["r"]
            return corners(x - radius, y - radius, x + radius, y + radius)
        case "ellipse":
            turn = math.degrees(values.get("theta", 0.0))
            return bounds_of_ellipse(values["cx"], values["cy"], values["rx"], values["ry"], turn)
        case "polygon":
            return bounds(list(zip(shape["all_points_x"], shape["all_points_y"], strict=True)))
        case _:
            return None


def _label(attributes: Mapping[str, Any]) -> str:
    """Return the class of a region: the attribute that is called so, or the only attribute with a text."""
    texts = {key: value for key, value in attributes.items() if isinstance(value, str) and value}
    for key in ("class", "label", "type", "name"):
        if key in texts:
            return texts[key]
    return next(iter(texts.values())) if len(texts) == 1 else ""


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
    read=_read_project,
)
