"""Read COCO: data sets of images and annotations, and the lists of results that detectors write.

`bbox` is XYWH in pixels (https://cocodataset.org/#format-data).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pycocotools import mask as coco_mask

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Entries, Images
from pipeline_lib.data.box_formats.record import BoxRecord, bounds, number
from pipeline_lib.data.box_formats.rows import xywh
from pipeline_lib.errors import DataError

XYWH_MODE = 1  # of Detectron2's `bbox_mode`


def _is_dataset(file: BoxFile) -> bool:
    return {"images", "annotations"} <= file.json_keys


def _read_dataset(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the box of each annotation. An unknown `image_id` is kept as a name, so that the checks report it.

    Raises:
        DataError: As in `image_entries`, or two categories share an id.
    """
    entries, labels = image_entries(file, images), dict[Any, str]()
    for category in file.json.get("categories", []):
        name = labels.setdefault(category["id"], category["name"])
        if name != category["name"]:
            raise DataError(
                f"{file.path}: the categories {name} and {category['name']} have the same id, {category['id']}. "
                "Export the file again with an id for each category"
            )
    for index, annotation in enumerate(file.json["annotations"]):
        entry = entries.get(annotation["image_id"], {"file_name": str(annotation["image_id"])})
        yield _record(annotation, entry, images, labels, f"{file.path}: entry {index}")


def image_entries(file: BoxFile, images: Images) -> dict[Any, Mapping[str, Any]]:
    """Return the entries of a data set's `images` by id, after comparing them with the images of the set.

    Raises:
        DataError: Two entries share an id, or belong to the same slice. Or a size differs from that of the image.
    """
    entries: dict[Any, Mapping[str, Any]] = {}
    places = Entries()
    for index, entry in enumerate(file.json["images"]):
        where, called = f"{file.path}: image {index}", str(entry["file_name"])
        if entry["id"] in entries:
            other = entries[entry["id"]]["file_name"]
            raise DataError(
                f"{where}: {called} has the id {entry['id']}, and so has {other}. Give each image another id"
            )
        entries[entry["id"]] = entry
        image = images.find(called)
        places.add(image, called, where, int(entry.get("slice", 0)))
        images.check_size(image, entry.get("width"), entry.get("height"), where)
    return entries


def _is_results(file: BoxFile) -> bool:
    return (file.json == [] and file.path.suffix.lower() == ".json") or "image_id" in file.entry_keys


def has_ids_alone(file: BoxFile) -> bool:
    """Return whether a list of results has an image for which it gives only the number in the data set."""
    return any(not isinstance(entry.get("file_name", entry["image_id"]), str) for entry in file.json)


def _read_results(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the box of each result. Its image is `file_name`, or `image_id`, which is a name or an id of the data set.

    Raises:
        DataError: An `image_id` is a number that no data set in the same call has.
    """
    for index, entry in enumerate(file.json):
        where, key = f"{file.path}: entry {index}", entry["image_id"]
        called = entry.get("file_name", images.by_id.get(key, key))
        if not isinstance(called, str):
            raise DataError(f"{where}: {_unknown_id(key, images)}")
        yield _record(entry, {"file_name": called}, images, {}, where)


def _unknown_id(key: Any, images: Images) -> str:
    if images.by_id:
        return f"the data set beside the list has no image with the id {key}. Name the data set that the detector used"
    return (
        f"image_id is {key}, the number of an image in the detector's data set, not a name. Name the JSON file of the "
        "data set together with the list, or write the names of the images as file_name"
    )


def _record(
    annotation: Mapping[str, Any],
    entry: Mapping[str, Any],
    images: Images,
    labels: Mapping[Any, str],
    where: str,
) -> BoxRecord:
    called, category = str(entry["file_name"]), annotation.get("category_id", "")
    image = images.find(called)
    return BoxRecord(
        image=image,
        **_box(annotation, images.shape_of(image), where),
        where=where,
        slice=int(entry["slice"]) if "slice" in entry else None,
        name=str(annotation.get("id", "")),
        label=str(labels.get(category, category)),
        score=number(annotation.get("score")),
        called=called,
        skip="a crowd (iscrowd), which is not one object" if annotation.get("iscrowd") else "",
    )


def _box(annotation: Mapping[str, Any], shape: tuple[int, int, int] | None, where: str) -> dict[str, Any]:
    """Return the box of an annotation: its `bbox`, or the bounding box of its polygons or run lengths.

    Args:
        annotation: An entry of `annotations`, or a result.
        shape: Shape of the image (ZYX, pixels); None if there is no such image.
        where: The file and the entry, for messages.

    Raises:
        DataError: `bbox` has another mode, or the run lengths have another size than the image.
    """
    if annotation.get("bbox_mode", XYWH_MODE) != XYWH_MODE:
        raise DataError(
            f"{where}: bbox_mode is {annotation['bbox_mode']}; expected 1 (x, y, width and height). Export the boxes "
            "in this mode"
        )
    segmentation, box = annotation.get("segmentation"), annotation.get("bbox") or []
    has_area = len(box) == 4 and number(box[2]) > 0 and number(box[3]) > 0  # some programs write zeros
    if has_area or not segmentation:
        x, y, width, height = map(number, annotation["bbox"])
        return xywh(x, y, width, height)
    if isinstance(segmentation, list):
        return bounds([point for part in segmentation for point in zip(part[::2], part[1::2], strict=True)])
    height, width = segmentation["size"]
    if shape is not None and (height, width) != shape[1:]:
        raise DataError(
            f"{where}: the run lengths are of {width} × {height} pixels, but the image has {shape[2]} × {shape[1]}. "
            "Export them for this image"
        )
    runs = (
        coco_mask.frPyObjects(segmentation, height, width) if isinstance(segmentation["counts"], list) else segmentation
    )
    return xywh(*map(float, coco_mask.toBbox(runs)))


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
