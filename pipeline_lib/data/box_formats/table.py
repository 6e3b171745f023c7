"""The table of all formats of box files, and the function that reads files of any of them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.coco import DATASET, RESULTS
from pipeline_lib.data.box_formats.csv_table import CSV
from pipeline_lib.data.box_formats.cvat import CVAT
from pipeline_lib.data.box_formats.fiji import FIJI
from pipeline_lib.data.box_formats.geojson import GEOJSON
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.label_studio import LABEL_STUDIO
from pipeline_lib.data.box_formats.labelme import LABELME
from pipeline_lib.data.box_formats.napari import NAPARI
from pipeline_lib.data.box_formats.record import BoxRecord
from pipeline_lib.data.box_formats.via import VIA
from pipeline_lib.data.box_formats.voc import VOC
from pipeline_lib.data.box_formats.yolo import CLASSES, YOLO
from pipeline_lib.errors import DataError

FORMATS: tuple[BoxFormat, ...] = (
    DATASET,
    RESULTS,
    YOLO,
    VOC,
    CSV,
    NAPARI,
    FIJI,
    GEOJSON,
    LABELME,
    LABEL_STUDIO,
    VIA,
    CVAT,
)
READABLE = tuple(each for each in FORMATS if each.read is not None)
NAMES = tuple(dict.fromkeys(each.name for each in READABLE))  # values of `segment.format`, in the order of the table
INSTEAD = "Export the boxes as COCO, or as CSV with the columns image,x0,y0,x1,y1"


def names_help() -> str:
    """Return the names of the formats with their titles, for the help of the command."""
    titles = {name: ", ".join(each.title for each in READABLE if each.name == name) for name in NAMES}
    return "; ".join(f"{name} ({title})" for name, title in titles.items())


def read_box_files(paths: Iterable[Path], images: Images, name: str | None) -> pd.DataFrame:
    """Read the boxes of files, in the order of the files.

    Nothing is checked but whether a file can be read: `data/box_checks.py` says which boxes are bad.

    Args:
        paths: Files, or folders. In a folder, every file with the suffix of a format is read, in the order of names.
        images: The images that the boxes belong to.
        name: One of `NAMES`. None decides by the suffix and the content of each file.

    Returns:
        A table with a row for each box, whose columns are the fields of `BoxRecord`: XYXY, half-open, in pixels.

    Raises:
        DataError: A file is missing, damaged or of an unknown format, or there is no box. The message names the file.
    """
    files = [file for path in paths for file in _files(path, name)]
    images = replace(images, one_file=len(files) == 1)
    rows = [asdict(_on_slice(box, images)) for file in files for box in _read(file, images, name)]
    if not rows:
        raise DataError(f"{', '.join(map(str, paths))}: expected at least one box, found none; draw or detect boxes")
    return pd.DataFrame(rows)


def _on_slice(box: BoxRecord, images: Images) -> BoxRecord:
    """Return a box with the number of its slice.

    Raises:
        DataError: the image has several slices, and the file names none of them, or one twice.
    """
    if box.image in images.slices and box.slice:
        raise DataError(
            f"{box.where}: expected one name of the slice, found its file {box.image} and the number {box.slice}; "
            "leave out one"
        )
    if box.image in images.slices:
        return replace(box, image=next(iter(images.shapes)), slice=images.slices[box.image])
    if box.slice is not None:
        return box
    count = images.shapes.get(box.image, (1, 1, 1))[0]
    if count > 1:
        raise DataError(
            f"{box.where}: expected the number of a slice, because {box.image} has {count}; found none. Add it "
            "(in a CSV file as the column `slice`, counted from 0)"
        )
    return replace(box, slice=0)


def _files(path: Path, name: str | None) -> Iterator[Path]:
    """Yield a file, or the box files of a folder."""
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder of boxes; check the path")
    if not path.is_dir():
        yield path
        return
    suffixes = _suffixes(READABLE if name is None else _of_name(name))
    files = [
        file
        for file in sorted(path.iterdir())
        if file.suffix.lower() in suffixes and not file.name.startswith(".") and file.name != CLASSES
    ]
    if not files:
        raise DataError(
            f"{path}: this folder holds no file of boxes; expected files of {_listing(suffixes)}. {INSTEAD}"
        )
    yield from files


def _read(path: Path, images: Images, name: str | None) -> Iterator[BoxRecord]:
    with _errors_that_name(path):
        file = BoxFile(path)
        box_format = format_of(file, name)
        if box_format.read is None:
            raise DataError(
                f"{path}: this is a {box_format.title} file, which LooseBox cannot read yet; {box_format.instead}"
            )
        yield from box_format.read(file, images)


def format_of(file: BoxFile, name: str | None = None) -> BoxFormat:
    """Return the format of a file.

    Args:
        file: A file of boxes.
        name: One of `NAMES`: only formats of this name are tried. None tries those of the file's suffix.

    Raises:
        DataError: No format matches. The message says what was expected and what the file holds.
    """
    suffix = file.path.suffix.lower()
    candidates = _of_name(name) if name else [each for each in FORMATS if suffix in each.suffixes]
    if not candidates:
        suffixes = _listing(_suffixes(READABLE))
        raise DataError(
            f"{file.path}: no format of boxes has the suffix {suffix!r}; expected one of {suffixes}. "
            "Choose the format with --format (segment.format), or export the boxes in another one"
        )
    match = next((each for each in candidates if each.matches(file)), None)
    if match is None:
        raise DataError(_no_match(file, candidates, name))
    return match


def _no_match(file: BoxFile, candidates: list[BoxFormat], name: str | None) -> str:
    """Say what was expected of a file that matches no format, what it holds, and what to do."""
    expected = "; or ".join(f"{each.title} ({each.content})" for each in candidates if each.read)
    problem = f"the content is not of the format {name}" if name else "the content is of no known format"
    action = f"Leave out --format {name} (segment.format) if the file is of another format. " if name else ""
    return f"{file.path}: {problem}. Expected {expected}; found {candidates[0].outline(file)}. {action}{INSTEAD}"


def _of_name(name: str) -> list[BoxFormat]:
    return [each for each in READABLE if each.name == name]


def _suffixes(formats: Iterable[BoxFormat]) -> set[str]:
    return {suffix for each in formats for suffix in each.suffixes}


def _listing(suffixes: Iterable[str]) -> str:
    return ", ".join(sorted(suffixes))


@contextmanager
def _errors_that_name(path: Path) -> Iterator[None]:
    """Turn what parsers raise on damaged files into a DataError that names the file."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error
    except KeyError as error:
        raise DataError(
            f"{path}: expected the key {error} in each entry; one lacks it. Export the file again"
        ) from error
    except Exception as error:  # each parser has its own
        raise DataError(
            f"{path}: cannot be read as boxes ({error}). Is it damaged or of another format? Export it again"
        ) from error
