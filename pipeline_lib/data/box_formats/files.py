"""Find the files of boxes in the folders that a user gives."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline_lib.data.box_formats.class_names import CLASSES
from pipeline_lib.data.box_formats.images_by_name import IMAGE_SUFFIXES, shortened
from pipeline_lib.data.image_files import files_below
from pipeline_lib.errors import DataError

Folder = tuple[str, ...]  # names of the folders between the one that was given and a file
BESIDE = IMAGE_SUFFIXES | {".yaml", ".names"}  # suffixes of other files that are expected beside files of boxes
INSTEAD = "Export the boxes as COCO, or as CSV with the columns image,x0,y0,x1,y1"
log = logging.getLogger(__name__)


def box_files(path: Path, suffixes: set[str]) -> Iterator[tuple[Path, Folder]]:
    """Yield a file, or the files with some suffixes in a folder and in its folders, each with the folders it lies in.

    What a folder holds beside files of boxes and images is logged.

    Raises:
        DataError: There is no such file or folder, or the folder has no file of boxes.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder of boxes; check the path")
    if not path.is_dir():
        yield path, ()
        return
    every = [file for file in files_below(path) if file.name != CLASSES]
    files = [file for file in every if file.suffix.lower() in suffixes]
    others = [file for file in every if file.suffix.lower() not in suffixes | BESIDE]
    if others:
        kinds = Counter(file.suffix.lower() or file.name for file in others)
        log.warning(
            "%s: LooseBox reads no boxes of %s there", path, shortened([f"{n} {kind}" for kind, n in kinds.items()])
        )
    if not files:
        raise DataError(
            f"{path}: this folder holds no file of boxes; expected files of {', '.join(sorted(suffixes))}. {INSTEAD}"
        )
    for file in files:
        yield file, file.relative_to(path).parts[:-1]
