"""YOLO: a text file for each image, with a line for each box, polygon or oriented box, in shares of the image."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.class_names import class_names
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, bounds, number
from pipeline_lib.data.box_formats.rows import centred
from pipeline_lib.errors import DataError

LARGEST_SHARE = 2.0  # of an image's side: detectors go a little beyond 1; larger numbers are pixels


def _matches(file: BoxFile) -> bool:
    """Return whether the file is empty, as for an image without boxes, or a line has a number after its class."""
    lines = [line.split() for line in file.lines if line.strip()]
    return not lines or any(np.isfinite(number(word)) for words in lines for word in words[1:])


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Read lines of class, box or points, and perhaps a score.

    A box is centre x, centre y, width and height. Points are those of a polygon, or the corners of an oriented box.

    Raises:
        DataError: a line has another count of words, can be read in two ways, or has a number that is not a share.
    """
    image, classes = images.of_file(file.path), class_names(file.path.parent)
    _, height, width = images.shape_of(image) or (1, 1, 1)
    for line, text in enumerate(file.lines, start=1):
        words, where = text.split(), f"{file.path}:{line}"
        if not words:
            continue
        shares, score = _numbers(words, where)
        if np.nanmax([0.0, *shares]) > LARGEST_SHARE:
            raise DataError(
                f"{where}: expected shares of the image's sides, from 0 to 1; found {text[:60]!r}. Divide x and width "
                "by the width of the image, y and height by its height"
            )
        pixels = [share * (width, height)[index % 2] for index, share in enumerate(shares)]
        yield BoxRecord(image=image, **_box(pixels), where=where, label=_label(words[0], classes), score=score)


def _numbers(words: list[str], where: str) -> tuple[list[float], float]:
    """Return the numbers of a line after its class: the shares, and the score, NaN if there is none."""
    values = [number(word) for word in words[1:]]
    count = len(values)
    if count == 5 and values[-1] > 1 and values[-1].is_integer():
        raise DataError(
            f"{where}: found {words[-1]} after the box, which is the number of a track; leave it out. A score lies "
            "from 0 to 1"
        )
    if count == 6 and float(values[-1]).is_integer():
        raise DataError(
            f"{where}: the line can be a box with a score and the number of a track, or a triangle; leave out the "
            "number of the track"
        )
    if count > 8 and (count - 4) % 3 == 0 and all(value in (0, 1, 2) for value in values[6::3]):
        raise DataError(f"{where}: found a box with keypoints, of a pose; export the boxes alone")
    if count < 4:
        raise DataError(
            f"{where}: expected class, centre x, centre y, width, height and perhaps a score, or class and the points "
            f"of a polygon; found {len(words)} words. Export the labels again"
        )
    return (values, np.nan) if count % 2 == 0 else (values[:-1], values[-1])


def _box(pixels: list[float]) -> dict[str, Any]:
    if len(pixels) == 4:
        return centred(*pixels)
    return bounds(list(zip(pixels[::2], pixels[1::2], strict=True)))


def _label(word: str, classes: Mapping[int, str]) -> str:
    return classes.get(int(word), word) if word.isdecimal() else word


YOLO = BoxFormat(
    name="yolo",
    title="YOLO",
    program="Ultralytics, labelImg",
    suffixes=(".txt",),
    content="lines of class, centre x, centre y, width and height",
    matches=_matches,
    outline=BoxFile.text_outline,
    read=_read,
)
