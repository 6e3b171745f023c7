"""Pascal VOC: an XML file for each image, and the polygons of LabelMe's web tool in the same form.

Corners are pixels that belong to the box, counted from 1, as in detectron2's `pascal_voc.py`. Some programs write
corners that are counted from 0, between pixels: such a file is known by a corner at 0 or by fractions.
"""

import logging
import math
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, bounds, corners, number, turned
from pipeline_lib.errors import DataError

EDGES = ("xmin", "ymin", "xmax", "ymax")
log = logging.getLogger(__name__)


def _matches(file: BoxFile) -> bool:
    return file.xml.tag == "annotation" or file.xml.find(".//object/bndbox") is not None


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Read the box of each object, or the bounds of its polygon.

    Raises:
        DataError: the size of the image is another one.
    """
    folder, name = (file.xml.findtext(key, "").strip() for key in ("folder", "filename"))
    called = f"{folder}/{name}" if folder and name else name
    image = _image(file, called, name, images)
    for width, height in ("size/width", "size/height"), ("imagesize/ncols", "imagesize/nrows"):  # of LabelMe's web tool
        images.check_size(image, file.xml.findtext(width), file.xml.findtext(height), str(file.path))
    first = _first_pixel(file)
    for index, entry in enumerate(file.xml.iter("object")):
        yield BoxRecord(
            image=image,
            **_box(entry, first),
            where=f"{file.path}: object {index}",
            label=entry.findtext("name", "").strip(),
            called=called,
            skip="deleted in LabelMe" if entry.findtext("deleted", "").strip() == "1" else "",
        )


def _image(file: BoxFile, called: str, name: str, images: Images) -> str:
    """Return the image of a file by its place, or else by its name and folder, which is often of another machine."""
    if not name:
        return images.of_file(file.path)
    placed = images.find(name) if images.folder else ""
    if images.shape_of(placed) is None:
        return images.find(called)
    if called not in (name, placed) and called in images.shapes:
        raise DataError(f"{file.path}: lies where the boxes of {placed} are expected, but names {called}")
    return placed


def _first_pixel(file: BoxFile) -> int:
    """Return the number of the first pixel in the corners of the file: 1, or 0 if the corners show it."""
    values = [number(entry.findtext(f"bndbox/{edge}")) for entry in file.xml.iter("object") for edge in EDGES]
    if any(value < 1 or value % 1 for value in values if value == value):
        log.info("%s: corners are counted from 0, as some lie at 0 or have fractions", file.path)
        return 0
    return 1


def _box(entry: Element, first: int) -> dict[str, Any]:
    if (points := entry.findall("polygon/pt")) and entry.find("bndbox") is None:
        return bounds([(number(point.findtext("x")), number(point.findtext("y"))) for point in points])
    if (tilted := entry.find("robndbox")) is not None:  # of roLabelImg: a centre, a size and an angle in radians
        x, y, w, h, angle = (number(tilted.findtext(key)) for key in ("cx", "cy", "w", "h", "angle"))
        return turned(x - w / 2, y - h / 2, x + w / 2, y + h / 2, math.degrees(angle))
    x0, y0, x1, y1 = (number(entry.findtext(f"bndbox/{edge}")) for edge in EDGES)
    return corners(x0 - first, y0 - first, x1, y1)


VOC = BoxFormat(
    name="voc",
    title="Pascal VOC",
    program="labelImg, CVAT, Label Studio",
    suffixes=(".xml",),
    content="the XML element <annotation>",
    matches=_matches,
    outline=BoxFile.xml_outline,
    read=_read,
)
