"""Find the names of classes in the files that YOLO tools write."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.errors import DataError

CLASSES = "classes.txt"  # labelImg and Label Studio write it beside the files of boxes, or in a folder above
LINES = (CLASSES, "obj.names")  # with a name on each line; Darknet and CVAT write the second
RECORDS = ("data.yaml", "dataset.yaml")  # of Ultralytics and Roboflow, with a list or a dictionary `names`
UPWARDS = 3  # number of folders to search, from the files of boxes upwards: labels/train, labels, the data set


def class_names(folder: Path) -> dict[int, str]:
    """Return the names of classes by number, from the nearest file at or above a folder; empty if there is none.

    Raises:
        DataError: The file cannot be read.
    """
    for place in [folder, *folder.resolve().parents][:UPWARDS]:
        for name in LINES:
            if (place / name).is_file():
                return _numbered(BoxFile(place / name).lines)
        for name in RECORDS:
            if (place / name).is_file():
                return _of_record(place / name)
    return {}


def has_keypoints(folder: Path) -> bool:
    """Return whether the record of the data set has Ultralytics' key `kpt_shape`, so that its labels are poses."""
    records = [place / name for place in [folder, *folder.resolve().parents][:UPWARDS] for name in RECORDS]
    return any(record.is_file() and re.search(r"^kpt_shape:", BoxFile(record).text, re.MULTILINE) for record in records)


def _of_record(path: Path) -> dict[int, str]:
    try:
        names = yaml.safe_load(BoxFile(path).text)["names"]
        return _numbered(names) if isinstance(names, list) else {int(key): str(name) for key, name in names.items()}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path}: expected the key `names`, a list of classes or a dictionary by number ({error!r})"
        ) from error


def _numbered(names: Sequence[object]) -> dict[int, str]:
    return {number: str(name).strip() for number, name in enumerate(names)}
