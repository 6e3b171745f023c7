"""Read Pascal VOC, an XML file for each image, and the polygons that LabelMe's web tool writes in the same form.

Corners are the first and last pixels of the box, counted from 1, as in detectron2's `pascal_voc.py`. Some programs
write corners between pixels, counted from 0. Such a file has a corner below 1, or corners with fractions.
"""

import logging
import math
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, bounds, bounds_of_rectangle, corners, number
from pipeline_lib.errors import DataError

EDGES = ("xmin", "ymin", "xmax", "ymax")
log = logging.getLogger(__name__)


def _matches(file: BoxFile) -> bool:
    return file.xml.tag == "annotation" or file.xml.find(".//object/bndbox") is not None


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the box of each object, or the bounding box of its polygon.

    Raises:
        DataError: The image has another size, or the file lies in the folder of another image.
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
    """Return the image of a file.

    The place of the file comes first, because `folder` in the file often belongs to another machine.

    Args:
        file: The file of boxes.
        called: Folder and name of the image in the file.
        name: Name of the image in the file.
        images: The images of the set.
    """
    if not name:
        return images.of_file(file.path)
    by_place = images.find(name) if images.folder else ""
    if images.shape_of(by_place) is None:
        return images.find(called)
    if called not in (name, by_place) and called in images.shapes:
        raise DataError(
            f"{file.path}: expected boxes of {by_place}, by the folder of the file, but the file names {called}. Move "
            "it to the folder of that image, or correct `folder` in it"
        )
    return by_place


def _first_pixel(file: BoxFile) -> int:
    """Return whether the corners of a file count pixels from 1 or from 0."""
    values = [number(entry.findtext(f"bndbox/{edge}")) for entry in file.xml.iter("object") for edge in EDGES]
    if any(value < 1 or value % 1 for value in values if value == value):
        log.info("%s: corners are counted from 0, because some are below 1 or have fractions", file.path)
        return 0
    return 1


def _box(entry: Element, first: int) -> dict[str, Any]:
    if (points := entry.findall("polygon/pt")) and entry.find("bndbox") is None:
        return bounds([(number(point.findtext("x")), number(point.findtext("y"))) for point in points])
    if (tilted := entry.find("robndbox")) is not None:  # roLabelImg writes centre, size and angle in radians
        x, y, w, h, angle = (number(tilted.findtext(key)) for key in ("cx", "cy", "w", "h", "angle"))
        return bounds_of_rectangle(x - w / 2, y - h / 2, x + w / 2, y + h / 2, math.degrees(angle))
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
