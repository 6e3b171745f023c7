"""List all formats of box files, and read files of any format."""

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
from pipeline_lib.data.box_formats.images_by_name import LISTED, Images, folders_of, shorten
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
NAMES = tuple(dict.fromkeys(each.name for each in READABLE))  # values of `segment.format`, in the order of `FORMATS`
log = logging.getLogger(__name__)


def names_help() -> str:
    """Return the names of the formats with their titles, for the help of `loosebox`."""
    titles = {name: ", ".join(each.title for each in READABLE if each.name == name) for name in NAMES}
    return "; ".join(f"{name} ({title})" for name, title in titles.items())


def read_box_files(paths: Iterable[Path], images: Images, name: str | None) -> pd.DataFrame:
    """Read boxes from files, in the order of the files.

    If a file states the size of its images, the size is compared with the images. The number of boxes in each file is
    logged. `data/box_checks.py` checks the boxes afterwards.

    Args:
        paths: Files or folders. A folder is searched with its subfolders, in the order of names, for files with the
            suffix of a format. If images lie in folders, a file in the subfolder `a` belongs to images in a folder `a`.
        images: The images that the boxes belong to.
        name: One of `NAMES`. None decides by the suffix and the content of each file.

    Returns:
        A table with a row for each box, whose columns are the fields of `BoxRecord`: XYXY, half-open, in pixels.

    Raises:
        DataError: A file is missing or damaged, has an unknown format, or contradicts its images. Or there is no box.
            The message names the file.
    """
    # Find the files, and the folder of images for each
    paths = list(paths)
    suffixes = _suffixes(READABLE if name is None else _of_name(name))
    files = {file: folder for path in paths for file, folder in box_files(path, suffixes)}
    prompt_files, images = _join_data_sets(files, images, name)
    images = replace(images, one_file=len(prompt_files) == 1)
    images_by_folder = {folder: replace(images, folder=folder) for folder in set(prompt_files.values())}
    # Read them, and check that they agree about their images
    by_file = {file: list(_read(file, images_by_folder[folder], name)) for file, folder in prompt_files.items()}
    _log(by_file)
    _check_places(by_file, prompt_files)
    records = [record for each in by_file.values() for record in each]
    if not records:
        raise DataError(f"{', '.join(map(str, paths))}: expected at least one box, found none; draw or detect boxes")
    _check_folders(records)
    return pd.DataFrame([asdict(_on_slice(record, images)) for record in records])


def _join_data_sets(
    files: Mapping[Path, Folder], images: Images, name: str | None
) -> tuple[Mapping[Path, Folder], Images]:
    """Take the ids of images from COCO data sets that are read together with lists of results.

    The annotations of such a data set are not read as prompts. They are the truth that the detector was trained on, or
    is compared with.

    Args:
        files: Files of boxes, with their folders.
        images: The images of the set.
        name: As in `read_box_files`.

    Returns:
        The files without these data sets, and the images with `by_id`.

    Raises:
        DataError: An id stands for two images.
    """
    # Do some results have only ids, and are there data sets that explain them?
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
    # Collect the names of the images by id
    ids: dict[int, str] = {}
    for path in data_sets:
        with _errors_that_name(path):
            for key, entry in image_entries(BoxFile(path), replace(images, folder=files[path])).items():
                called = str(entry["file_name"])
                if ids.setdefault(key, called) != called:
                    raise DataError(
                        f"{path}: the id {key} is {called} here, but {ids[key]} in another data set. Name only the "
                        "data set that the detector used"
                    )
        log.info("%s: names the images of the results; its annotations are not prompts", path)
    log.info("image_id: %s", shorten([f"{key} is {called}" for key, called in ids.items()]))
    return {file: folder for file, folder in files.items() if file not in data_sets}, replace(images, by_id=ids)


def _log(by_file: Mapping[Path, Sequence[BoxRecord]]) -> None:
    """Log how many boxes of which images each file has, and which files have no boxes."""
    for file, records in list(by_file.items())[:LISTED]:
        counts = Counter(record.image for record in records)
        log.info("%s: %s", file, shorten([f"{count} boxes of {image}" for image, count in counts.items()]))
    empty = [str(file) for file, records in by_file.items() if not records]
    if len(by_file) > LISTED:
        log.info("%d boxes in %d files", sum(map(len, by_file.values())), len(by_file))
    if empty:
        log.warning("No boxes in %d of %d files: %s", len(empty), len(by_file), shorten(empty))


def _check_places(by_file: Mapping[Path, Sequence[BoxRecord]], folders: Mapping[Path, Folder]) -> None:
    """Refuse boxes for one image in files of different folders, such as new/1.txt and old/1.txt.

    Raises:
        DataError: There are such files. The message names both.
    """
    files: dict[str, Path] = {}
    for file, records in by_file.items():
        for image in dict.fromkeys(record.image for record in records):
            other = files.setdefault(image, file)
            if folders[other] != folders[file]:
                raise DataError(
                    f"{file}: has boxes of {image}, and so has {other} in another folder. Name the files or folders to "
                    "use, or put the images into folders with the same names"
                )


def _check_folders(records: Iterable[BoxRecord]) -> None:
    """Refuse boxes for one image that the files name with different folders, such as train/1.png and val/1.png.

    One path can have more folders in front: images/1.png and /data/images/1.png are the same image.

    Raises:
        DataError: There are such boxes. The message names both.
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
                f"{record.where}: belongs to {record.called!r}, but {first.where} belongs to {first.called!r}, and "
                f"both would be the image {record.image}. Segment the images and boxes of each folder alone"
            )
        if len(parts) > len(longest):
            folders[record.image] = parts, record


def _on_slice(box: BoxRecord, images: Images) -> BoxRecord:
    """Return a box with the number of its slice.

    Raises:
        DataError: The image has several slices, and the file names no slice, or names it in two ways.
    """
    if box.image in images.slices and box.slice:
        raise DataError(
            f"{box.where}: expected the file or the number of a slice, found both, {box.image} and {box.slice}; leave "
            "out one of them"
        )
    if box.image in images.slices:
        return replace(box, image=next(iter(images.shapes)), slice=images.slices[box.image])
    if box.slice is not None:
        return box
    count = images.shapes.get(box.image, (1, 1, 1))[0]
    if count > 1 and not box.skip:
        raise DataError(
            f"{box.where}: expected the number of a slice, because {box.image} has {count} slices; found none. Add it "
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
        name: One of `NAMES`, to try only formats with this name. None tries those with the suffix of the file.

    Raises:
        DataError: No format matches. The message says what was expected and what the file holds.
    """
    suffix = file.path.suffix.lower()
    candidates = _of_name(name) if name else [each for each in FORMATS if suffix in each.suffixes]
    if not candidates:
        suffixes = _listing(_suffixes(READABLE))
        raise DataError(
            f"{file.path}: no format of boxes has the suffix {suffix!r}; expected one of {suffixes}. "
            "Choose a format with --format (segment.format), or export the boxes in another one"
        )
    match = next((each for each in candidates if each.matches(file)), None)
    if match is None:
        raise DataError(_no_match(file, candidates, name))
    return match


def _no_match(file: BoxFile, candidates: list[BoxFormat], name: str | None) -> str:
    """Return the message for a file that matches no format."""
    expected = "; or ".join(f"{each.title} ({each.content})" for each in candidates if each.read)
    problem = f"the content does not have the format {name}" if name else "the content has no known format"
    action = f"Leave out --format {name} (segment.format) if the file has another format. " if name else ""
    return f"{file.path}: {problem}: found {candidates[0].outline(file)}. {action}{INSTEAD}. Formats: {expected}"


def _of_name(name: str) -> list[BoxFormat]:
    return [each for each in READABLE if each.name == name]


def _suffixes(formats: Iterable[BoxFormat]) -> set[str]:
    return {suffix for each in formats for suffix in each.suffixes}


def _listing(suffixes: Iterable[str]) -> str:
    return ", ".join(sorted(suffixes))


@contextmanager
def _errors_that_name(path: Path) -> Iterator[None]:
    """Convert exceptions of parsers, which read damaged files, to a DataError that names the file."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from error
    except KeyError as error:
        raise DataError(
            f"{path}: expected the key {error} in each entry, but one entry lacks it. Export the file again"
        ) from error
    except Exception as error:  # each parser has exceptions of its own
        raise DataError(
            f"{path}: cannot be read as boxes ({error}). It may be damaged or have another format. Export it again"
        ) from error
