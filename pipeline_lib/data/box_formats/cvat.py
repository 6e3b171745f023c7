"""Read CVAT's XML: "CVAT for images 1.1" and "CVAT for video 1.1".

https://docs.cvat.ai/docs/dataset_management/formats/format-cvat
"""

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Entries, Images
from pipeline_lib.data.box_formats.record import (
    NO_BOX,
    BoxRecord,
    bounds,
    bounds_of_ellipse,
    bounds_of_rectangle,
    number,
    slice_number,
)
from pipeline_lib.data.box_formats.rows import xywh
from pipeline_lib.errors import DataError

WITHOUT_BOX = {"tag", "attribute"}  # elements that describe a whole image


def _is_video(file: BoxFile) -> bool:
    return file.xml.tag == "annotations" and file.xml.find("track") is not None


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the bounding box of each shape. Points and lines are skipped.

    Raises:
        DataError: A size differs from that of its image, or two entries belong to one image.
    """
    entries = Entries()
    for number_of_image, entry in enumerate(file.xml.iter("image")):
        called = entry.attrib["name"]
        image, where = images.find(called), f"{file.path}: image {number_of_image}"
        entries.add(image, called, where)
        images.check_size(image, entry.get("width"), entry.get("height"), where)
        for index, shape in enumerate(each for each in entry if each.tag not in WITHOUT_BOX):
            box = _box(shape)
            yield BoxRecord(
                image=image,
                **(box or NO_BOX),
                where=f"{where}, shape {index}",
                label=shape.get("label", ""),
                called=called,
                skip="" if box else f"a shape of the type {shape.tag} encloses no area",
            )


def _read_video(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the bounding box of each shape of each track. A frame is a slice of the only stack, counted from 0.

    Raises:
        DataError: There is not one stack with a slice for each frame, or the size differs from that of its slices.
    """
    image = images.of_file(file.path)
    _check_frames(file, image, images)
    for track in file.xml.iter("track"):
        key = track.get("id", "")
        for shape in track:
            if shape.get("outside") == "1":  # the object is not in this frame
                continue
            where = f"{file.path}: track {key}, frame {shape.get('frame')}"
            box = _box(shape)
            yield BoxRecord(
                image=image,
                **(box or NO_BOX),
                where=where,
                slice=slice_number(shape.get("frame", ""), where),
                name=key,
                track=key,
                label=track.get("label", ""),
                skip="" if box else f"a shape of the type {shape.tag} encloses no area",
            )


def _check_frames(file: BoxFile, image: str, images: Images) -> None:
    """Refuse a video whose frames are not the slices of an image."""
    shape = images.shape_of(image)
    first, kept, frames = (file.xml.findtext(f"meta/*/{key}") for key in ("start_frame", "frame_filter", "size"))
    if shape is None:
        raise DataError(
            f"{file.path}: the frames of a video must be the slices of one stack, but there is no stack with this "
            "name. Give only the stack as images, or export CVAT for images 1.1 from CVAT"
        )
    if number(first or 0) != 0 or kept:
        raise DataError(
            f"{file.path}: the task begins at frame {first} and keeps the frames {kept or 'after it'}, so its frames "
            "are not the slices of a stack. Export CVAT for images 1.1 from CVAT"
        )
    if number(frames) != shape[0]:
        raise DataError(
            f"{file.path}: expected as many frames as {image} has slices, {shape[0]}; found {frames}. Give the stack "
            "with all frames as images"
        )
    width, height = (file.xml.findtext(f"meta//original_size/{side}") for side in ("width", "height"))
    images.check_size(image, width, height, str(file.path))


def _box(shape: Element) -> dict[str, Any] | None:
    """Return the bounding box of a shape; None for points and lines."""

    def numbers(*names: str) -> list[float]:
        return [number(shape.get(name)) for name in names]

    degrees = number(shape.get("rotation", 0))
    match shape.tag:
        case "box":
            x0, y0, x1, y1 = numbers("xtl", "ytl", "xbr", "ybr")
            return bounds_of_rectangle(x0, y0, x1, y1, degrees)
        case "ellipse":
            x, y, rx, ry = numbers("cx", "cy", "rx", "ry")
            return bounds_of_ellipse(x, y, rx, ry, degrees)
        case "mask":
            left, top, width, height = numbers("left", "top", "width", "height")
            return xywh(left, top, width, height)
        case "polygon":
            return bounds(
                [[number(value) for value in point.split(",")] for point in shape.attrib["points"].split(";")]
            )
        case _:
            return None


CVAT = BoxFormat(
    name="cvat",
    title="CVAT",
    program="CVAT",
    suffixes=(".xml",),
    content="the XML element <annotations> with images",
    matches=lambda file: file.xml.tag == "annotations" and not _is_video(file),
    outline=BoxFile.xml_outline,
    read=_read,
)
CVAT_VIDEO = BoxFormat(
    name="cvat",
    title="CVAT for video",
    program="CVAT",
    suffixes=(".xml",),
    content="the XML element <annotations> with tracks",
    matches=_is_video,
    outline=BoxFile.xml_outline,
    read=_read_video,
)
