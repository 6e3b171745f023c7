"""The table of all formats of box files, and the function that reads files of any of them."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.coco import DATASET, RESULTS, has_ids_alone, image_entries
from pipeline_lib.data.box_formats.csv_table import CSV, MAKE_SENSE
from pipeline_lib.data.box_formats.csv_tools import CELLPROFILER, FIJI_TABLE, MATLAB, REGIONPROPS
from pipeline_lib.data.box_formats.cvat import CVAT, CVAT_VIDEO
from pipeline_lib.data.box_formats.fiji import FIJI
from pipeline_lib.data.box_formats.files import INSTEAD, Folder, box_files
from pipeline_lib.data.box_formats.geojson import GEOJSON
from pipeline_lib.data.box_formats.images_by_name import LISTED, Images, folders_of, shortened
from pipeline_lib.data.box_formats.label_studio import LABEL_STUDIO, LABEL_STUDIO_CSV
from pipeline_lib.data.box_formats.labelme import LABELME
from pipeline_lib.data.box_formats.napari import NAPARI
from pipeline_lib.data.box_formats.other_tools import SUPERVISELY, VOTT
from pipeline_lib.data.box_formats.record import BoxRecord
from pipeline_lib.data.box_formats.roboflow import ROBOFLOW
from pipeline_lib.data.box_formats.via import VIA, VIA_3, VIA_CSV
from pipeline_lib.data.box_formats.voc import VOC
from pipeline_lib.data.box_formats.yolo import YOLO
from pipeline_lib.errors import DataError

FORMATS: tuple[BoxFormat, ...] = (
    DATASET,
    RESULTS,
    YOLO,
    VOC,
    CSV,
    FIJI_TABLE,
    REGIONPROPS,
    CELLPROFILER,
    MATLAB,
    MAKE_SENSE,
    NAPARI,
    FIJI,
    GEOJSON,
    LABELME,
    LABEL_STUDIO,
    LABEL_STUDIO_CSV,
    VIA,
    VIA_CSV,
    VIA_3,
    CVAT,
    CVAT_VIDEO,
    ROBOFLOW,
    SUPERVISELY,
    VOTT,
)
READABLE = tuple(each for each in FORMATS if each.read is not None)
NAMES = tuple(dict.fromkeys(each.name for each in READABLE))  # values of `segment.format`, in the order of the table
log = logging.getLogger(__name__)


def names_help() -> str:
    """Return the names of the formats with their titles, for the help of the command."""
    titles = {name: ", ".join(each.title for each in READABLE if each.name == name) for name in NAMES}
    return "; ".join(f"{name} ({title})" for name, title in titles.items())


def read_box_files(paths: Iterable[Path], images: Images, name: str | None) -> pd.DataFrame:
    """Read the boxes of files, in the order of the files.

    Files that state something about their images are compared with them. `data/box_checks.py` says which boxes are
    bad. What was read from which file is logged.

    Args:
        paths: Files, or folders. Of a folder and its folders, every file with the suffix of a format is read, in the
            order of names. The images of a file in the folder `a` lie in a folder `a`, if images lie in folders.
        images: The images that the boxes belong to.
        name: One of `NAMES`. None decides by the suffix and the content of each file.

    Returns:
        A table with a row for each box, whose columns are the fields of `BoxRecord`: XYXY, half-open, in pixels.

    Raises:
        DataError: A file is missing, damaged or of an unknown format, contradicts its images, or there is no box. The
            message names the file.
    """
    paths = list(paths)
    suffixes = _suffixes(READABLE if name is None else _of_name(name))
    files = {file: folder for path in paths for file, folder in box_files(path, suffixes)}
    listed, images = _join_data_sets(files, images, name)
    images = replace(images, one_file=len(listed) == 1)
    within = {folder: replace(images, folder=folder) for folder in set(listed.values())}
    boxes = {file: list(_read(file, within[folder], name)) for file, folder in listed.items()}
    _log(boxes)
    _check_places(boxes, listed)
    records = [record for each in boxes.values() for record in each]
    if not records:
        raise DataError(f"{', '.join(map(str, paths))}: expected at least one box, found none; draw or detect boxes")
    _check_folders(records)
    return pd.DataFrame([asdict(_on_slice(record, images)) for record in records])


def _join_data_sets(
    files: Mapping[Path, Folder], images: Images, name: str | None
) -> tuple[Mapping[Path, Folder], Images]:
    """Take the ids of images from COCO data sets that are given together with lists of results.

    The annotations of such a data set are the truth that a detector was trained on or is compared with: they are no
    prompts.
    """
    data_sets, ids_alone = [], False
    for path in files if len(files) > 1 else []:
        if path.suffix.lower() == ".json":
            with _errors_that_name(path):
                file = BoxFile(path)
                kind = format_of(file, name)
                data_sets += [path] if kind is DATASET else []
                ids_alone = ids_alone or (kind is RESULTS and has_ids_alone(file))
    if not (data_sets and ids_alone):
        return files, images
    ids: dict[int, str] = {}
    for path in data_sets:
        with _errors_that_name(path):
            for key, entry in image_entries(BoxFile(path), replace(images, folder=files[path])).items():
                called = str(entry["file_name"])
                if ids.setdefault(key, called) != called:
                    raise DataError(f"{path}: the id {key} is {called} here, and {ids[key]} in another data set")
        log.info("%s: names the images of the results; its own annotations are no prompts", path)
    log.info("image_id: %s", shortened([f"{key} is {called}" for key, called in ids.items()]))
    return {file: folder for file, folder in files.items() if file not in data_sets}, replace(images, by_id=ids)


def _log(boxes: Mapping[Path, Sequence[BoxRecord]]) -> None:
    """Say how many boxes of which images came from each file, and name files without boxes."""
    for file, records in list(boxes.items())[:LISTED]:
        counts = Counter(record.image for record in records)
        log.info("%s: %s", file, shortened([f"{count} boxes of {image}" for image, count in counts.items()]))
    empty = [str(file) for file, records in boxes.items() if not records]
    if len(boxes) > LISTED:
        log.info("%d boxes in %d files", sum(map(len, boxes.values())), len(boxes))
    if empty:
        log.warning("No boxes in %d of %d files: %s", len(empty), len(boxes), shortened(empty))


def _check_places(boxes: Mapping[Path, Sequence[BoxRecord]], folders: Mapping[Path, Folder]) -> None:
    """Refuse boxes of one image in files of different folders, such as new/1.txt and old/1.txt.

    Raises:
        DataError: The message names both files.
    """
    files: dict[str, Path] = {}
    for file, records in boxes.items():
        for image in dict.fromkeys(record.image for record in records):
            other = files.setdefault(image, file)
            if folders[other] != folders[file]:
                raise DataError(
                    f"{file}: has boxes of {image}, and so has {other} in another folder. Give the files or folders "
                    "that are meant, one by one, or put the images into folders of the same names"
                )


def _check_folders(records: Iterable[BoxRecord]) -> None:
    """Refuse boxes of one image that the files name in different folders, such as train/1.png and val/1.png.

    A path can be longer in one place than in another: images/1.png and /data/images/1.png are the same.
    """
    folders: dict[str, tuple[tuple[str, ...], BoxRecord]] = {}
    for record in records:
        parts = folders_of(record.called)
        if not parts:
            continue
        longest, first = folders.setdefault(record.image, (parts, record))
        shared = min(len(longest), len(parts))
        if longest[-shared:] != parts[-shared:]:
            raise DataError(
                f"{record.where}: is of {record.called!r}, but {first.where} is of {first.called!r}, and both would be "
                f"the image {record.image}. Give the images and the boxes of each folder alone"
            )
        if len(parts) > len(longest):
            folders[record.image] = parts, record


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
    if count > 1 and not box.skip:
        raise DataError(
            f"{box.where}: expected the number of a slice, because {box.image} has {count}; found none. Add it "
            "(in a CSV file as the column `slice`, counted from 0)"
        )
    return replace(box, slice=0)


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
    return f"{file.path}: {problem}: found {candidates[0].outline(file)}. {action}{INSTEAD}. Formats: {expected}"


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
