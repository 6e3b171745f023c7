"""COCO: data sets of images and annotations, and the lists of results that detectors write.

`bbox` is XYWH in pixels (https://cocodataset.org/#format-data).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, corners, number
from pipeline_lib.errors import DataError


def _is_dataset(file: BoxFile) -> bool:
    return {"images", "annotations"} <= file.json_keys


def _read_dataset(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Read a data set. An `image_id` that `images` does not list is kept, so that the checks report it."""
    content = file.json
    names = {image["id"]: images.find(image["file_name"]) for image in content["images"]}
    labels = {category["id"]: category["name"] for category in content.get("categories", [])}
    for index, entry in enumerate(content["annotations"]):
        key = entry["image_id"]
        yield _record(entry, names.get(key, str(key)), labels, f"{file.path}: entry {index}")


def _is_results(file: BoxFile) -> bool:
    return file.json == [] or "image_id" in file.entry_keys


def _read_results(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Read a list of results, which names an image by `image_id`: a name, or 17 for 17.png or 000017.png.

    Raises:
        DataError: an `image_id` can mean several images.
    """
    by_number: dict[int, list[str]] = {}
    for name in images.shapes:
        if Path(name).stem.isdecimal():
            by_number.setdefault(int(Path(name).stem), []).append(name)
    for index, entry in enumerate(file.json):
        key = entry["image_id"]
        names = by_number.get(key, [])
        if len(names) > 1:
            raise DataError(
                f"{file.path}: entry {index}: image_id {key} may be any of the images {', '.join(names)}; "
                "write the name of the image as image_id"
            )
        yield _record(entry, names[0] if names else images.find(str(key)), {}, f"{file.path}: entry {index}")


def _record(entry: Mapping[str, Any], image: str, labels: Mapping[Any, str], where: str) -> BoxRecord:
    x, y, width, height = map(number, entry["bbox"])
    category = entry.get("category_id", "")
    return BoxRecord(
        image=image,
        **corners(x, y, x + width, y + height),
        where=where,
        name=str(entry.get("id", "")),
        label=str(labels.get(category, category)),
        score=number(entry.get("score")),
    )


DATASET = BoxFormat(
    name="coco",
    title="COCO data set",
    program="CVAT, Label Studio, VIA",
    suffixes=(".json",),
    content="a JSON object with the keys images and annotations",
    matches=_is_dataset,
    outline=BoxFile.json_outline,
    read=_read_dataset,
)
RESULTS = BoxFormat(
    name="coco",
    title="COCO results",
    program="detectors, such as Detectron2 and MMDetection",
    suffixes=(".json",),
    content="a JSON list of entries with the keys image_id and bbox",
    matches=_is_results,
    outline=BoxFile.json_outline,
    read=_read_results,
)
