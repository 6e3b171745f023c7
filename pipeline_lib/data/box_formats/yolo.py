"""Read YOLO labels: a text file for each image, with a line for each box, polygon or oriented box.

Coordinates are shares of the width and height of the image (https://docs.ultralytics.com/datasets/detect).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.class_names import class_names, has_keypoints
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, bounds, number
from pipeline_lib.data.box_formats.rows import from_centre
from pipeline_lib.errors import DataError

BOX_AND_SCORE = 5  # count of numbers after the class; a line with more numbers has points
LARGEST_SHARE = 2.0  # detectors go a little beyond 1; larger numbers are pixels


def _matches(file: BoxFile) -> bool:
    """Return whether a line has a number after its class, or the file is empty because its image has no boxes."""
    lines = [line.split() for line in file.lines if line.strip()]
    return not lines or any(np.isfinite(number(word)) for words in lines for word in words[1:])


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the box of each line: its class, then a box or points, and an optional score.

    A box is centre x, centre y, width and height. Points are those of a polygon, or the corners of an oriented box.

    Raises:
        DataError: A line has a wrong number of words, has two meanings, or has a number that is not a share.
    """
    image, classes = images.of_file(file.path), class_names(file.path.parent)
    _check_poses(file)
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


def _check_poses(file: BoxFile) -> None:
    """Refuse boxes with keypoints, because their lines can look like those of polygons.

    A file has keypoints if the record of the data set says so. Without a record, it has keypoints if

    - all lines have the same number of points,
    - the points lie in the box of the first four numbers of their line, and
    - in at least one line, width and height would be a vertex far from all other vertices.

    Raises:
        DataError: The file has keypoints. The message says what to export instead.
    """
    lines = [[number(word) for word in text.split()[1:]] for text in file.lines if text.strip()]
    outlines = [values for values in lines if len(values) > BOX_AND_SCORE]
    if not outlines:
        return
    alike = len({len(values) for values in lines}) == 1 and len(lines[0]) % 2 == 0
    if has_keypoints(file.path.parent) or (
        alike and all(map(_could_be_pose, outlines)) and any(map(_is_no_polygon, outlines))
    ):
        raise DataError(
            f"{file.path}: expected boxes or polygons, found boxes with keypoints (poses). Export the boxes alone, or "
            "COCO"
        )


def _could_be_pose(values: Sequence[float]) -> bool:
    x, y, width, height, *rest = values
    points = [point for point in zip(rest[::2], rest[1::2], strict=True) if point != (0, 0)]  # (0, 0) is not visible
    return all(abs(right - x) <= width / 2 and abs(down - y) <= height / 2 for right, down in points)


def _is_no_polygon(values: Sequence[float]) -> bool:
    """Return whether the second point is farther from the other points than these are from each other."""
    points = np.array(values).reshape(-1, 2)
    others = np.delete(points, 1, axis=0)
    low, high = others.min(axis=0), others.max(axis=0)
    return bool(np.hypot(*(points[1] - points[1].clip(low, high))) > np.hypot(*(high - low)))


def _numbers(words: list[str], where: str) -> tuple[list[float], float]:
    """Return the shares of a line, and its score, which is NaN if there is none.

    Raises:
        DataError: The line is not a box or a polygon, or can be two things. `where` names it.
    """
    values = [number(word) for word in words[1:]]
    count = len(values)
    if count == 5 and values[-1] > 1 and values[-1].is_integer():
        raise DataError(
            f"{where}: expected a score from 0 to 1 after the box, found {words[-1]}, which seems to be the number of "
            "a track. Leave it out"
        )
    if count == 6 and float(values[-1]).is_integer():
        raise DataError(
            f"{where}: the line can be a box with a score and the number of a track, or a triangle. If it is a box, "
            "leave out the number of the track"
        )
    if count > 8 and (count - 4) % 3 == 0 and all(value in (0, 1, 2) for value in values[6::3]):
        raise DataError(
            f"{where}: expected a box or a polygon, found a box with keypoints (a pose). Export the boxes alone"
        )
    if count < 4:
        raise DataError(
            f"{where}: expected class, centre x, centre y, width, height and an optional score, or class and the "
            f"points of a polygon; found {len(words)} words. Export the labels again"
        )
    return (values, np.nan) if count % 2 == 0 else (values[:-1], values[-1])


def _box(pixels: list[float]) -> dict[str, Any]:
    if len(pixels) == 4:
        return from_centre(*pixels)
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
