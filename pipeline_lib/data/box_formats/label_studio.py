"""Read exports of Label Studio: JSON, JSON-MIN and CSV. A row of CSV has the keys of an entry of JSON-MIN.

Coordinates are per cent of the sides of the image (https://labelstud.io/guide/task_format).
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import IMAGE_SUFFIXES, Entries, Images
from pipeline_lib.data.box_formats.record import (
    NO_BOX,
    BoxRecord,
    bounds,
    bounds_of_ellipse,
    bounds_of_rectangle,
    number,
)
from pipeline_lib.errors import DataError

TASK_KEYS = {"annotations", "predictions", "completions"}  # keys beside `data` in an entry of JSON
FLAT_KEYS = {"annotation_id", "annotator"}  # keys of an entry of JSON-MIN, and columns of CSV
UPLOADS = re.compile(r"^.*data/upload/(\d+/)?(?=[^/]*$)")  # Label Studio's folders for uploaded files
UPLOADED = re.compile(r"(^|/)[0-9a-f]{8}-(?=[^/]*$)")  # the prefix that it adds to the name of an uploaded file
WITHOUT_BOX = {"choices", "textarea", "rating", "number", "taxonomy", "datetime"}  # types of results for whole images


def _matches(file: BoxFile) -> bool:
    keys = file.entry_keys | file.json_keys
    return keys >= FLAT_KEYS or ("data" in keys and not keys.isdisjoint(TASK_KEYS))


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    tasks = file.json if isinstance(file.json, list) else [file.json]
    return _records([(f"{file.path}: task {index}", task) for index, task in enumerate(tasks)], images)


def _read_table(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    return _records([(f"{file.path}:{line}", _task(row)) for line, row in file.table.rows], images)


def _task(row: Mapping[str, str | None]) -> dict[str, Any]:
    """Return a row of CSV as an entry of JSON-MIN. Cells that hold a JSON list are parsed."""
    return {name: _list_or_text(cell) for name, cell in row.items()}


def _list_or_text(cell: str | None) -> Any:
    try:
        return json.loads(cell) if cell and cell.startswith("[") else cell
    except ValueError:
        return cell  # a text that a person wrote


def _records(tasks: Iterable[tuple[str, Mapping[str, Any]]], images: Images) -> Iterator[BoxRecord]:
    """Yield the bounding box of each region.

    Args:
        tasks: The place of each task, for messages, and its entry.
        images: The images of the set.

    Raises:
        DataError: A task has annotations of several people, no image, or the image of another task. Or a size differs
            from that of the image.
    """
    entries = Entries()
    for where, task in tasks:
        results = _results(task, where)
        called = _image_of(task.get("data", task), where)
        image = _find_image(called, images)
        entries.add(image, called, where)
        for index_of_result, result in enumerate(_regions(results)):
            place = f"{where}, region {index_of_result}"
            images.check_size(image, result.get("original_width"), result.get("original_height"), place)
            yield _record(result, image, called, images, place)


def _results(task: Mapping[str, Any], where: str) -> Sequence[Mapping[str, Any]]:
    """Return the regions that people drew; if there are none, those that a model predicted."""
    if "data" not in task:  # JSON-MIN has a list of regions for each tag
        lists = [value for value in task.values() if isinstance(value, list)]
        return [entry for each in lists for entry in each if isinstance(entry, dict)]
    sources = [
        each for each in task.get("annotations") or task.get("completions") or [] if not each.get("was_cancelled")
    ]
    sources = sources or task.get("predictions") or []
    if len(sources) > 1:
        raise DataError(f"{where}: expected one annotation of the task, found {len(sources)}; keep one of them")
    results: Sequence[Mapping[str, Any]] = sources[0]["result"] if sources else []
    return results


def _regions(results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a result for each region.

    If shapes and classes have separate tags, a region has two results with one id. They are joined.
    """
    regions: dict[Any, dict[str, Any]] = {}
    for index, result in enumerate(results):
        if result.get("type") in WITHOUT_BOX or "from_id" in result:  # a relation of two regions
            continue
        region = regions.setdefault(result.get("id", index), dict(result))
        if "value" in result:
            region["value"] = {**region["value"], **result["value"]}
    return list(regions.values())


def _image_of(data: Mapping[str, Any], where: str) -> str:
    """Return the name that a task has for its image."""
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    names = [text for text in texts.values() if Path(text.split("?")[0]).suffix.lower() in IMAGE_SUFFIXES]
    if "image" in texts:
        names = [texts["image"]]
    if len(names) != 1:
        raise DataError(f"{where}: expected one image in `data`, found {len(names)}; call its key `image`")
    return names[0].split("?d=")[-1]  # local storage has addresses such as /data/local-files/?d=folder/a.png


def _find_image(called: str, images: Images) -> str:
    """Return the image with a name, or with the name without the parts that Label Studio adds."""
    for text in called, unquote(called):  # addresses write a space as %20
        stored = UPLOADS.sub("", text)
        names = [images.find(each) for each in (text, stored, UPLOADED.sub(r"\1", stored))]
        for name in names:
            if images.shape_of(name):
                return name
    return called


def _record(result: Mapping[str, Any], image: str, called: str, images: Images, where: str) -> BoxRecord:
    value = result.get("value", result)  # in JSON-MIN, the result is the value
    height, width = (images.shape_of(image) or (1, 1, 1))[1:]
    box = _box(value, width / 100, height / 100)
    labels = [label for key, each in value.items() if key.endswith("labels") and each for label in each]
    return BoxRecord(
        image=image,
        **(box or NO_BOX),
        where=where,
        name=str(result.get("id", "")),
        label=str(labels[0]) if labels else "",
        score=number(result.get("score")),
        called=called,
        skip="" if box else f"a region of the type {result.get('type', 'brush or point')} has no outline here",
    )


def _box(value: Mapping[str, Any], x_unit: float, y_unit: float) -> dict[str, Any] | None:
    """Return the bounding box of a region in pixels; None if it is a point or a mask.

    Args:
        value: Shape of the region.
        x_unit: Unit of horizontal coordinates, pixels.
        y_unit: Unit of vertical coordinates, pixels.
    """
    degrees = number(value.get("rotation", 0))
    if "points" in value:
        return bounds([(number(x) * x_unit, number(y) * y_unit) for x, y in value["points"]])
    if not {"x", "y"} <= set(value):
        return None
    x, y = number(value["x"]) * x_unit, number(value["y"]) * y_unit
    if {"radiusX", "radiusY"} <= set(value):
        return bounds_of_ellipse(x, y, number(value["radiusX"]) * x_unit, number(value["radiusY"]) * y_unit, degrees)
    if "keypointlabels" in value or "height" not in value:
        return None
    width, height = number(value["width"]) * x_unit, number(value["height"]) * y_unit
    return bounds_of_rectangle(x, y, x + width, y + height, degrees, pivot=(x, y))


LABEL_STUDIO = BoxFormat(
    name="label_studio",
    title="Label Studio",
    program="Label Studio",
    suffixes=(".json",),
    content="a JSON list of tasks with the keys data and annotations",
    matches=_matches,
    outline=BoxFile.json_outline,
    read=_read,
)
LABEL_STUDIO_CSV = BoxFormat(
    name="label_studio",
    title="Label Studio table",
    program="Label Studio",
    suffixes=(".csv", ".tsv"),
    content="the columns annotation_id and annotator",
    matches=lambda file: set(file.table.columns) >= FLAT_KEYS,
    outline=BoxFile.table_outline,
    read=_read_table,
)
