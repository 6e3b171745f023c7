"""Find the names of classes where YOLO's tools write them."""

import re
from collections.abc import Sequence
from pathlib import Path

import yaml

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.errors import DataError

CLASSES = "classes.txt"  # of labelImg and Label Studio, in the folder of the files or above
LINES = (CLASSES, "obj.names")  # a name on each line; the second is Darknet's and CVAT's
RECORDS = ("data.yaml", "dataset.yaml")  # of Ultralytics and Roboflow, with a list or a dictionary `names`
UPWARDS = 3  # folders that are looked into: labels/train, labels, and that of the data set


def class_names(folder: Path) -> dict[int, str]:
    """Return the names of classes by number, from the nearest file; empty if there is none.

    Raises:
        DataError: the file cannot be read.
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
    """Return whether the record of the data set says that its labels are poses, with Ultralytics' `kpt_shape`."""
    records = [place / name for place in [folder, *folder.resolve().parents][:UPWARDS] for name in RECORDS]
    return any(record.is_file() and re.search(r"^kpt_shape:", BoxFile(record).text, re.MULTILINE) for record in records)


def _of_record(path: Path) -> dict[int, str]:
    try:
        names = yaml.safe_load(BoxFile(path).text)["names"]
        return _numbered(names) if isinstance(names, list) else {int(key): str(name) for key, name in names.items()}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: expected `names`, a list of classes or a dictionary by number ({error!r})") from error


def _numbered(names: Sequence[object]) -> dict[int, str]:
    return {number: str(name).strip() for number, name in enumerate(names)}
