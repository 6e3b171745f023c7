"""Find the files of boxes in the folders that a user gives."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pipeline_lib.data.box_formats.class_names import CLASSES
from pipeline_lib.data.box_formats.images_by_name import IMAGE_SUFFIXES, shorten
from pipeline_lib.data.image_files import files_below
from pipeline_lib.errors import DataError

Folder = tuple[str, ...]  # names of the folders from the folder that the user names down to a file
BESIDE = IMAGE_SUFFIXES | {".yaml", ".names"}  # suffixes of files that are often beside files of boxes: no warning
INSTEAD = "Export the boxes as COCO, or as CSV with the columns image,x0,y0,x1,y1"
log = logging.getLogger(__name__)


def box_files(path: Path, suffixes: set[str]) -> Iterator[tuple[Path, Folder]]:
    """Yield the files of boxes at a path, each with the folders below `path` that it lies in.

    Other files than those of boxes and images are logged.

    Args:
        path: A file, or a folder that is searched with its subfolders.
        suffixes: Suffixes of files of boxes, in lower case, with the dot. A single file can have any suffix.

    Raises:
        DataError: There is no such file or folder, or the folder has no file of boxes.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file or folder of boxes; check the path")
    if not path.is_dir():
        yield path, ()
        return
    content = [file for file in files_below(path) if file.name != CLASSES]
    files = [file for file in content if file.suffix.lower() in suffixes]
    others = [file for file in content if file.suffix.lower() not in suffixes | BESIDE]
    if others:
        kinds = Counter(file.suffix.lower() or file.name for file in others)
        log.warning(
            "%s: LooseBox reads no boxes of %s there", path, shorten([f"{n} {kind}" for kind, n in kinds.items()])
        )
    if not files:
        raise DataError(
            f"{path}: this folder holds no file of boxes; expected files of {', '.join(sorted(suffixes))}. {INSTEAD}"
        )
    for file in files:
        yield file, file.relative_to(path).parts[:-1]
