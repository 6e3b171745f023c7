"""The images of a set, looked up by the texts that box files use for them."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline_lib.data.box_formats.record import number
from pipeline_lib.data.image_files import IMAGES
from pipeline_lib.data.images import Shape
from pipeline_lib.errors import DataError

IMAGE_SUFFIXES = {*IMAGES, ".zarr", ".h5", ".hdf5", ".gif", ".webp"}  # that names of images end in
LISTED = 5  # names that a message shows


@dataclass(frozen=True)
class Images:
    """The images that boxes can belong to."""

    shapes: Mapping[str, Shape]
    """Shape of each image (ZYX, pixels) by its name, which is its path in the folder of images."""
    one_file: bool = True
    """Whether a single file holds all boxes. Its name then need not be that of the only image."""
    by_id: Mapping[int, str] = field(default_factory=dict)
    """Names of images by their ids in a COCO data set, for lists of results that hold the ids alone."""
    slices: Mapping[str, int] = field(default_factory=dict)
    """Number of each slice of the only image by the name of its file, if each slice is a file."""
    folder: tuple[str, ...] = ()
    """Where the file of boxes lies in the folder that was given; its images lie in a folder of this name."""

    @cached_property
    def by_text(self) -> dict[str, list[str]]:
        """Names of the images that a text without folders can mean: a file, or one without suffix (.tif, .ome.tif)."""
        names: dict[str, list[str]] = {}
        for name in (*self.shapes, *self.slices):
            file = _file_in(name)
            stem = Path(file).stem
            for text in {file, stem, stem.removesuffix(".ome")}:
                names.setdefault(text, []).append(name)
        return names

    def find(self, text: str) -> str:
        """Return the name of the image that a file calls `text`: a name, with or without folders and suffix.

        Folders of the text, and those that the file of boxes lies in, must be those of the image. One of the two can
        have more of them, such as /data/train/1.png for train/1.png.

        Returns `text` itself, below the folder of the file, if there is no such image.

        Raises:
            DataError: several images have that name.
        """
        base, folders = _file_in(text), (*self.folder, *folders_of(text))
        exact = [name for name in self.by_text.get(base, []) if _file_in(name) == base]
        stem = Path(base).stem if Path(base).suffix.lower() in IMAGE_SUFFIXES else base
        for names in exact, self.by_text.get(stem, []):
            fitting = _in_folders(names, folders)
            if len(fitting) > 1:
                raise DataError(
                    f"{text!r} may be any of the images {shortened(sorted(fitting))}; name it with its folder and "
                    "suffix, or put the file of boxes into a folder of the same name"
                )
            if fitting:
                self._check_place(text, fitting[0], names)
                return fitting[0]
        return "/".join((*self.folder, text))

    def _check_place(self, text: str, found: str, names: Sequence[str]) -> None:
        """Refuse a file of boxes that names an image of another folder than its own, although its own has one."""
        beside = [name for name in names if self.folder and folders_of(name) == self.folder and name != found]
        if beside:
            raise DataError(
                f"{text!r} is the image {found}, but the file lies in the folder {'/'.join(self.folder)}, of which "
                f"{beside[0]} is an image, too. Put the file into the folder of its images"
            )

    def of_file(self, path: Path) -> str:
        """Return the image of a box file that names none: the only image, or the one with the name of the file.

        Raises:
            DataError: several images have that name.
        """
        name = self.find(path.stem)
        return next(iter(self.shapes)) if self.one_file and len(self.shapes) == 1 and name not in self.slices else name

    def shape_of(self, name: str) -> Shape | None:
        """Return the shape (ZYX, pixels) of the image with a name, or of the slice with a name; None without one."""
        if name in self.slices:
            _, height, width = next(iter(self.shapes.values()))
            return 1, height, width
        return self.shapes.get(name)

    def check_size(self, image: str, width: Any, height: Any, where: str) -> None:
        """Compare the size that a file states for an image with the size that it has.

        Args:
            image: Name of the image. An image that is not there has no size to compare.
            width: Pixels, a number or its text. Tools write nothing or 0 if they do not know it.
            height: As `width`.
            where: The file and the entry, for the error message.

        Raises:
            DataError: The sizes differ, so the boxes are of another copy of the image.
        """
        stated = [number(value) for value in (width, height)]
        shape = self.shape_of(image)
        if shape is None or not all(value > 0 for value in stated):
            return
        _, real_height, real_width = shape
        if stated != [real_width, real_height]:
            raise DataError(
                f"{where}: the file says that {image} has {stated[0]:g} × {stated[1]:g} pixels (width × height), but "
                f"it has {real_width} × {real_height}. The boxes are of a resized or another image; export them for "
                "this one, or scale them"
            )


def _in_folders(names: Sequence[str], folders: tuple[str, ...]) -> list[str]:
    """Return the names whose folders agree with those of a text: the one with the same folders, else the nearest ones.

    Folders agree if the longer ones end with the shorter ones. A name without folders agrees with all, but not if there
    are others.
    """
    shared: dict[str, int] = {}
    for name in names:
        own = folders_of(name)
        count = min(len(own), len(folders))
        if own[len(own) - count :] == folders[len(folders) - count :]:
            shared[name] = count
    most = max(shared.values(), default=0)
    nearest = [name for name, count in shared.items() if count == most]
    if nearest and folders and most == 0:
        return list(names)
    return [name for name in nearest if folders_of(name) == folders] or nearest


class Entries:
    """The entries of one file, each of which is to be of another image."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, int], tuple[str, str]] = {}

    def add(self, image: str, called: str, where: str, slice: int = 0) -> None:
        """Note that the entry at `where` names an image, and a slice of it, by the text `called`.

        Raises:
            DataError: another entry is of the same one. They are two images to the program that wrote the file.
        """
        other, place = self._first.setdefault((image, slice), (called, where))
        if place != where:
            raise DataError(
                f"{where}: {called!r} is the image {image}, and so is {other!r} of {place}. They are two images to the "
                "file; export the boxes of each folder or video alone"
            )


def shortened(texts: Sequence[str]) -> str:
    """Return the first texts as a list, and how many there are beside them."""
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return ", ".join(texts[:LISTED]) + more if texts else "no boxes"


def folders_of(text: str) -> tuple[str, ...]:
    """Return the folders in a text that names an image, without drives and dots."""
    parts = [part for part in _parts(text) if part not in ("", ".", "..")]
    return tuple(part for part in parts[:-1] if not part.endswith(":"))


def _file_in(text: str) -> str:
    """Return the file that a text names, without folders."""
    return _parts(text)[-1]


def _parts(text: str) -> list[str]:
    return re.split(r"[/\\]", _composed(text))


def _composed(text: str) -> str:
    """Return a text in composed letters (NFC); macOS writes file names in decomposed ones."""
    return unicodedata.normalize("NFC", text)
