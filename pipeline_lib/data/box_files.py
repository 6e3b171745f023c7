"""Boxes as people and detectors have written them, from the files of seven tools, as one table.

Whatever a format means by a number, here boxes are XYXY, half-open, in pixels of their image: one around the first
pixel alone is 0, 0, 1, 1. Nothing is judged here but whether a file can be read: `data/box_checks.py` says which boxes
are bad.
"""

import csv
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import roifile

from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.images import Shape
from pipeline_lib.data.readers import PICTURES, TIFF
from pipeline_lib.errors import DataError

IMAGE_SUFFIXES = {*PICTURES, *TIFF, ".zarr", ".h5", ".hdf5", ".bmp", ".gif", ".webp"}  # what names of images end in
CSV_XYXY = [("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom")]
CSV_XYWH = [("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height")]
CSV_IMAGE, CSV_SLICE = ("image", "filename", "file"), ("slice", "z")
CSV_CLASS, CSV_SCORE, CSV_NAME = ("class", "label", "category"), ("score", "confidence"), ("name", "id")


@dataclass(frozen=True)
class Given:
    """A box as it was found."""

    image: str  # the image's name, or what the file calls it if there is no such image
    x0: float
    y0: float
    x1: float
    y1: float
    where: str  # the file, and the line or the number of the entry
    slice: int = 0  # of the image, from 0
    name: str = ""
    label: str = ""  # its class
    score: float = np.nan


@dataclass(frozen=True)
class Images:
    """The images that boxes can be of: their shapes by name."""

    shapes: Mapping[str, Shape]
    one_file: bool = True  # all boxes are in one file, which then need not be called like the only image

    @cached_property
    def called(self) -> dict[str, list[str]]:
        """The images that a text may mean: by name, and by name without suffix."""
        found: dict[str, list[str]] = {}
        for name in self.shapes:
            for text in {_composed(name), _composed(Path(name).stem)}:
                found.setdefault(text, []).append(name)
        return found

    def find(self, text: str) -> str:
        """The name of the image that a file calls `text`: its name, with or without folders and suffix.

        Returns `text` itself where there is no such image.

        Raises:
            DataError: several images are called so.
        """
        base = re.split(r"[/\\]", _composed(text))[-1]
        exact = [name for name in self.called.get(base, []) if _composed(name) == base]
        if exact:
            return exact[0]
        stem = Path(base).stem if Path(base).suffix.lower() in IMAGE_SUFFIXES else base
        found = self.called.get(stem, [])
        if len(found) > 1:
            raise DataError(f"{text!r} may be any of the images {', '.join(sorted(found))}; name it with its suffix")
        return found[0] if found else text

    def of_file(self, path: Path) -> str:
        """The image whose boxes are in a file that names none: the only one, or the one of the file's name."""
        return next(iter(self.shapes)) if self.one_file and len(self.shapes) == 1 else self.find(path.stem)


def _composed(text: str) -> str:
    """A name in composed letters, as macOS takes them apart."""
    return unicodedata.normalize("NFC", text)


Reader = Callable[[Path, Images], Iterator[Given]]


def read_given(paths: Iterable[Path], images: Images, form: str | None) -> pd.DataFrame:
    """The boxes of some files, in their order: a row for each, with the fields of `Given`.

    Args:
        paths: files, or folders whose files of a known suffix are read in the order of their names.
        images: whose names are sought in the files, and in those files' names.
        form: of `FORMATS`; None tells it from the suffix.

    Raises:
        DataError: naming a file that is missing, damaged or of another format.
    """
    files = [file for path in paths for file in _files(path, form)]
    images = replace(images, one_file=len(files) == 1)
    rows = [asdict(box) for file in files for box in _boxes(file, images, form)]
    if not rows:
        raise DataError(f"{', '.join(map(str, paths))}: expected at least one box, found none")
    return pd.DataFrame(rows)


def _files(path: Path, form: str | None) -> Iterator[Path]:
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder of boxes")
    if not path.is_dir():
        yield path
        return
    suffixes = SUFFIXES if form is None else {suffix for suffix, own in SUFFIXES.items() if own == form}
    found = [
        file
        for file in sorted(path.iterdir())
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.name != "classes.txt"
    ]
    if not found:
        raise DataError(f"{path}: holds no file of boxes; expected one of {', '.join(sorted(suffixes))}")
    yield from found


def _boxes(file: Path, images: Images, form: str | None) -> Iterator[Given]:
    if form is None and file.suffix.lower() not in SUFFIXES:
        raise DataError(f"{file}: expected boxes in one of {', '.join(sorted(SUFFIXES))}")
    with _reading(file):
        yield from FORMATS[form or SUFFIXES[file.suffix.lower()]](file, images)


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Turn what parsers raise on damaged files into a DataError that names the file."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{file}: {error}" if str(file) not in str(error) else str(error)) from error
    except KeyError as error:
        raise DataError(f"{file}: expected the key {error} in each entry") from error
    except Exception as error:  # each parser has its own
        raise DataError(f"{file}: cannot be read as boxes; is it damaged or of another format? ({error})") from error


def _number(text: Any) -> float:
    """A number, or NaN where there is none, which the checks then tell."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return np.nan


def _coco(file: Path, images: Images) -> Iterator[Given]:
    """COCO: a data set with `images` and `annotations`, or a detector's list of results; `bbox` is XYWH.

    An image of a list of results is called by its `image_id`, 17 for 17.png and 000017.png.
    """
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    listed = isinstance(content, list)
    entries = content if listed else content["annotations"]
    names = {} if listed else {image["id"]: images.find(image["file_name"]) for image in content["images"]}
    classes = {} if listed else {each["id"]: each["name"] for each in content.get("categories", [])}
    numbered: dict[int, list[str]] = {}
    for name in images.shapes:
        if Path(name).stem.isdecimal():
            numbered.setdefault(int(Path(name).stem), []).append(name)
    for number, entry in enumerate(entries):
        x, y, width, height = map(_number, entry["bbox"])
        key, category = entry["image_id"], entry.get("category_id", "")
        own = [names[key]] if key in names else numbered.get(key, []) if listed else [str(key)]
        if len(own) > 1:
            raise DataError(f"entry {number}: image_id {key} may be any of the images {', '.join(own)}")
        yield Given(
            image=own[0] if own else images.find(str(key)),
            **_box(x, y, x + width, y + height),
            where=f"{file}: entry {number}",
            name=str(entry.get("id", "")),
            label=str(classes.get(category, category)),
            score=_number(entry.get("score")),
        )


def _yolo(file: Path, images: Images) -> Iterator[Given]:
    """YOLO: lines of class, centre and size in shares of the image, perhaps confidence, in a file named like the image.

    `classes.txt` beside it, a line for each, names the classes.
    """
    image, listed = images.of_file(file), file.with_name("classes.txt")
    classes = listed.read_text(encoding="utf-8-sig").splitlines() if listed.exists() else []
    _, height, width = images.shapes.get(image, (1, 1, 1))
    for line, text in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        words = text.split()
        if not words:
            continue
        if len(words) not in (5, 6):
            raise DataError(f"{file}:{line}: expected class, centre x, y, width, height and perhaps a score")
        x, y, w, h, score = map(_number, [*words[1:5], words[5] if len(words) == 6 else None])
        if max(x, y, w, h) > MOST_SHARE:
            raise DataError(f"{file}:{line}: expected shares of the image's sides, from 0 to 1, found {text!r}")
        label = classes[int(words[0])] if words[0].isdigit() and int(words[0]) < len(classes) else words[0]
        box = _box((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        yield Given(image=image, **box, where=f"{file}:{line}", label=label, score=score)


MOST_SHARE = 2.0  # of an image's side that a YOLO file may name: detectors go a little beyond 1, pixels far


def _voc(file: Path, images: Images) -> Iterator[Given]:
    """Pascal VOC: corners are pixels, counted from 1, that belong to the box, as in detectron2's `pascal_voc.py`."""
    root = ElementTree.parse(file).getroot()
    image = images.find(root.findtext("filename") or file.stem)
    for number, entry in enumerate(root.iter("object")):
        x0, y0, x1, y1 = (_number(entry.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
        where, label = f"{file}: object {number}", entry.findtext("name") or ""
        yield Given(image=image, **_box(x0 - 1, y0 - 1, x1, y1), where=where, label=label)


def _csv(file: Path, images: Images) -> Iterator[Given]:
    """CSV with a header: XYXY or XYWH, told by the columns' names; or the rectangles of napari's layer of shapes."""
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        columns = {name.strip().lower(): name for name in reader.fieldnames or []}
        rows = [(reader.line_num, {key: row[name] for key, name in columns.items()}) for row in reader]
    if "shape-type" in columns:
        yield from _napari(file, images, rows)
        return
    corners = next((names for names in CSV_XYXY if set(names) <= set(columns)), None)
    sizes = next((names for names in CSV_XYWH if set(names) <= set(columns)), None)
    if corners is None and sizes is None:
        known = " or ".join(",".join(names) for names in [*CSV_XYXY, *CSV_XYWH])
        raise DataError(f"{file}:1: expected columns {known}; found {','.join(columns)}")
    for line, row in rows:
        a, b, c, d = (_number(row[name]) for name in corners or sizes or ())
        text = _first(row, CSV_IMAGE)
        yield Given(
            image=images.find(text) if text else images.of_file(file),
            **(_box(a, b, c, d) if corners else _box(a, b, a + c, b + d)),
            where=f"{file}:{line}",
            slice=_slice(_first(row, CSV_SLICE) or 0, f"{file}:{line}"),
            name=_first(row, CSV_NAME),
            label=_first(row, CSV_CLASS),
            score=_number(_first(row, CSV_SCORE)),
        )


def _napari(file: Path, images: Images, rows: Sequence[tuple[int, Mapping[str, str]]]) -> Iterator[Given]:
    """The rectangles of napari's shapes: there a pixel reaches from half before its number to half after it."""
    image = images.of_file(file)
    shapes: dict[str, list[tuple[int, Mapping[str, str]]]] = {}
    for line, row in rows:
        shapes.setdefault(row["index"], []).append((line, row))
    axes = sorted((key for key in rows[0][1] if key.startswith("axis-")), key=lambda key: int(key[5:])) if rows else []
    for index, vertices in shapes.items():
        *z, y, x = np.array([[_number(row[axis]) for axis in axes] for _, row in vertices]).T + 0.5
        yield Given(
            image=image,
            **_box(x.min(), y.min(), x.max(), y.max()),
            where=f"{file}:{vertices[0][0]}",
            slice=_slice(np.floor(z[-1][0]), f"{file}:{vertices[0][0]}") if z else 0,
            name=index,
        )


def _fiji(file: Path, images: Images) -> Iterator[Given]:
    """Fiji: a region's bounds, from a `.roi` or a ROI manager's `.zip` named like the image."""
    image, found = images.of_file(file), roifile.roiread(file)
    for number, roi in enumerate(found if isinstance(found, list) else [found]):
        box = _box(roi.left, roi.top, roi.right, roi.bottom)
        if roi.subpixelrect:
            box = _box(roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd)
        where = f"{file}: region {number}"
        yield Given(
            image=image, **box, where=where, slice=max(roi.z_position, roi.position, 1) - 1, name=roi.name or ""
        )


def _geojson(file: Path, images: Images) -> Iterator[Given]:
    """QuPath's GeoJSON: the box around each annotation, in a file named like the image."""
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    features = content if isinstance(content, list) else content.get("features", [content])
    for number, feature in enumerate(features):
        geometry, properties = feature["geometry"], feature.get("properties") or {}
        corners = np.array(list(_points(geometry["coordinates"])), float)
        yield Given(
            image=images.of_file(file),
            **_box(*corners.min(axis=0), *corners.max(axis=0)),
            where=f"{file}: feature {number}",
            slice=int(geometry.get("plane", {}).get("z", 0)),
            name=str(properties.get("name", "")),
            label=str((properties.get("classification") or {}).get("name", "")),
        )


def _points(coordinates: Any) -> Iterator[Sequence[float]]:
    """The points of GeoJSON's nested lists."""
    if coordinates and not isinstance(coordinates[0], list):
        yield coordinates[:2]
        return
    for part in coordinates:
        yield from _points(part)


def _box(*edges: float) -> dict[str, Any]:
    return dict(zip(XYXY, map(float, edges), strict=True))


def _first(row: Mapping[str, str], names: Iterable[str]) -> str:
    """A row's text in the first of some columns that it has, or nothing."""
    return next((row[name] or "" for name in names if name in row), "")


def _slice(text: Any, where: str) -> int:
    number = _number(text)
    if not number.is_integer():
        raise DataError(f"{where}: expected a slice's number, found {text!r}")
    return int(number)


FORMATS: dict[str, Reader] = {
    "coco": _coco,
    "yolo": _yolo,
    "voc": _voc,
    "csv": _csv,
    "fiji": _fiji,
    "geojson": _geojson,
}
SUFFIXES = {
    ".json": "coco",
    ".txt": "yolo",
    ".xml": "voc",
    ".csv": "csv",
    ".roi": "fiji",
    ".zip": "fiji",
    ".geojson": "geojson",
}
