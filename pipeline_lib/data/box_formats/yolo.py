"""YOLO: a text file for each image, with a line for each box."""

from collections.abc import Iterator

import numpy as np

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, corners, number
from pipeline_lib.errors import DataError

CLASSES = "classes.txt"  # beside the files: names of the classes, one on each line
LARGEST_SHARE = 2.0  # of an image's side: detectors go a little beyond 1; larger numbers are pixels


def _matches(file: BoxFile) -> bool:
    """Return whether the file is empty, as for an image without boxes, or a line has a number after its class."""
    lines = [line.split() for line in file.lines if line.strip()]
    return not lines or any(np.isfinite(number(word)) for words in lines for word in words[1:])


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Read lines of class, centre x, centre y, width and height as shares of the image, and perhaps a score.

    Raises:
        DataError: a line has another count of words, or a number that is not a share.
    """
    image, classes = images.of_file(file.path), _classes(file)
    _, height, width = images.shape_of(image) or (1, 1, 1)
    for line, text in enumerate(file.lines, start=1):
        words, where = text.split(), f"{file.path}:{line}"
        if not words:
            continue
        if len(words) not in (5, 6):
            raise DataError(
                f"{where}: expected class, centre x, centre y, width, height and perhaps a score; found {len(words)} "
                "words. Export the labels again, as boxes"
            )
        x, y, w, h, score = map(number, [*words[1:5], words[5] if len(words) == 6 else None])
        if max(x, y, w, h) > LARGEST_SHARE:
            raise DataError(
                f"{where}: expected shares of the image's sides, from 0 to 1; found {text!r}. Divide x and width by "
                "the width of the image, y and height by its height"
            )
        box = corners((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        yield BoxRecord(image=image, **box, where=where, label=_label(words[0], classes), score=score)


def _classes(file: BoxFile) -> list[str]:
    path = file.path.with_name(CLASSES)
    return BoxFile(path).lines if path.exists() else []


def _label(word: str, classes: list[str]) -> str:
    return classes[int(word)] if word.isdigit() and int(word) < len(classes) else word


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
