"""Look up the images of a set by the names that box files use for them."""

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

IMAGE_SUFFIXES = {*IMAGES, ".zarr", ".h5", ".hdf5", ".gif", ".webp"}  # suffixes of names of images in box files
LISTED = 5  # number of names that a message shows


@dataclass(frozen=True)
class Images:
    """The images that boxes can belong to."""

    shapes: Mapping[str, Shape]
    """Shape of each image (ZYX, pixels) by its name: its path in the folder of images."""
    one_file: bool = True
    """Whether one file holds all boxes. If there is also only one image, their names can differ."""
    by_id: Mapping[int, str] = field(default_factory=dict)
    """Names of images by their ids in a COCO data set, for lists of results that have only the ids."""
    slices: Mapping[str, int] = field(default_factory=dict)
    """Number of each slice by the name of its file, if the only image is a folder of slices."""
    folder: tuple[str, ...] = ()
    """Subfolders that the file of boxes lies in. Its images lie in subfolders with the same names."""

    @cached_property
    def by_text(self) -> dict[str, list[str]]:
        """Names of the images by each text that can mean them: file name, with and without suffix (.tif, .ome.tif)."""
        names: dict[str, list[str]] = {}
        for name in (*self.shapes, *self.slices):
            file = _file_in(name)
            stem = Path(file).stem
            for text in {file, stem, stem.removesuffix(".ome")}:
                names.setdefault(text, []).append(name)
        return names

    def find(self, text: str) -> str:
        """Return the name of the image that a box file calls `text`.

        The folders of the text, below those that the box file lies in, must agree with the folders of the image. One of
        the two can have more folders in front, such as /data/train/1.png for train/1.png.

        Args:
            text: A name with or without folders and suffix.

        Returns:
            The name of the image. If there is no such image, `text`, below the folder of the box file.

        Raises:
            DataError: Several images have that name.
        """
        base, folders = _file_in(text), (*self.folder, *folders_of(text))
        exact = [name for name in self.by_text.get(base, []) if _file_in(name) == base]
        stem = Path(base).stem if Path(base).suffix.lower() in IMAGE_SUFFIXES else base
        for names in exact, self.by_text.get(stem, []):
            matches = _in_folders(names, folders)
            if len(matches) > 1:
                raise DataError(
                    f"{text!r} fits several images: {shorten(sorted(matches))}. Name the image with its folder and "
                    "suffix, or put the file of boxes into a folder with the name of the image's folder"
                )
            if matches:
                self._check_place(text, matches[0], names)
                return matches[0]
        return "/".join((*self.folder, text))

    def _check_place(self, text: str, image: str, names: Sequence[str]) -> None:
        """Refuse a box file that names an image of another folder, if its own folder has an image of that name."""
        beside = [name for name in names if self.folder and folders_of(name) == self.folder and name != image]
        if beside:
            raise DataError(
                f"{text!r} is the image {image}, but the file of boxes lies in the folder {'/'.join(self.folder)}, "
                f"which has the image {beside[0]}. Put the file into the folder of its images"
            )

    def of_file(self, path: Path) -> str:
        """Return the image of a box file that names no image: the only image, or the one with the name of the file.

        Raises:
            DataError: Several images have that name.
        """
        name = self.find(path.stem)
        return next(iter(self.shapes)) if self.one_file and len(self.shapes) == 1 and name not in self.slices else name

    def shape_of(self, name: str) -> Shape | None:
        """Return the shape (ZYX, pixels) of an image, or of a slice that is a file. None if there is no such name."""
        if name in self.slices:
            _, height, width = next(iter(self.shapes.values()))
            return 1, height, width
        return self.shapes.get(name)

    def check_size(self, image: str, width: Any, height: Any, where: str) -> None:
        """Compare the size of an image in a box file with its real size.

        Args:
            image: Name of the image. Nothing is compared if there is no such image.
            width: Width in the box file, pixels: a number or text. Tools write nothing or 0 if they do not know it.
            height: Height in the box file, as `width`.
            where: The file and the entry, for the error message.

        Raises:
            DataError: The sizes differ, so the boxes belong to another copy of the image.
        """
        size = [number(value) for value in (width, height)]
        shape = self.shape_of(image)
        if shape is None or not all(value > 0 for value in size):
            return
        _, real_height, real_width = shape
        if size != [real_width, real_height]:
            raise DataError(
                f"{where}: the file says that {image} has {size[0]:g} × {size[1]:g} pixels (width × height), but "
                f"it has {real_width} × {real_height}. The boxes belong to a resized or another image. Export them "
                "for this image, or scale them"
            )


def _in_folders(names: Sequence[str], folders: tuple[str, ...]) -> list[str]:
    """Return the names whose folders agree with `folders`: the one with the same folders, or else the nearest ones.

    Two lists of folders agree if the longer one ends with the shorter one. A name without folders agrees with all
    folders, unless a name with folders agrees.
    """
    shared: dict[str, int] = {}
    for name in names:
        parents = folders_of(name)
        count = min(len(parents), len(folders))
        if parents[len(parents) - count :] == folders[len(folders) - count :]:
            shared[name] = count
    most = max(shared.values(), default=0)
    nearest = [name for name, count in shared.items() if count == most]
    if nearest and folders and most == 0:
        return list(names)
    return [name for name in nearest if folders_of(name) == folders] or nearest


class Entries:
    """The entries of a box file for images. Two entries must not belong to the same image."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, int], tuple[str, str]] = {}

    def add(self, image: str, called: str, where: str, slice: int = 0) -> None:
        """Record an entry.

        Args:
            image: Name of its image.
            called: Name of the image in the file.
            where: The file and the entry, for the error message.
            slice: Slice of the image.

        Raises:
            DataError: Another entry belongs to the same slice. The program that wrote the file had two images.
        """
        other, place = self._first.setdefault((image, slice), (called, where))
        if place != where:
            raise DataError(
                f"{where}: {called!r} is the image {image}, and so is {other!r} of {place}. In the file they are two "
                "images. Export the boxes of each folder or video alone"
            )


def shorten(texts: Sequence[str]) -> str:
    """Join the first texts with commas, and say how many more there are."""
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return ", ".join(texts[:LISTED]) + more if texts else "no boxes"


def folders_of(text: str) -> tuple[str, ...]:
    """Return the folders in the name of an image, without drives and dots."""
    parts = [part for part in _parts(text) if part not in ("", ".", "..")]
    return tuple(part for part in parts[:-1] if not part.endswith(":"))


def _file_in(text: str) -> str:
    """Return the file name in the name of an image, without folders."""
    return _parts(text)[-1]


def _parts(text: str) -> list[str]:
    return re.split(r"[/\\]", _composed(text))


def _composed(text: str) -> str:
    """Return a text in composed letters (NFC). macOS writes file names in decomposed letters."""
    return unicodedata.normalize("NFC", text)
