"""The images of a set, looked up by the texts that box files use for them."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline_lib.data.box_formats.record import number
from pipeline_lib.data.image_files import MRC, PICTURES, TIFF
from pipeline_lib.data.images import Shape
from pipeline_lib.errors import DataError

IMAGE_SUFFIXES = {*PICTURES, *TIFF, *MRC, ".zarr", ".h5", ".hdf5", ".gif", ".webp"}  # that names of images end in


@dataclass(frozen=True)
class Images:
    """The images that boxes can belong to."""

    shapes: Mapping[str, Shape]
    """Shape of each image (ZYX, pixels) by its name."""
    one_file: bool = True
    """Whether a single file holds all boxes. Its name then need not be that of the only image."""
    by_id: Mapping[int, str] = field(default_factory=dict)
    """Names of images by their ids in a COCO data set, for lists of results that hold the ids alone."""
    slices: Mapping[str, int] = field(default_factory=dict)
    """Number of each slice of the only image by the name of its file, if each slice is a file."""

    @cached_property
    def by_text(self) -> dict[str, list[str]]:
        """Names of the images that a text can mean: a name, or a name without its suffix (.tif, .ome.tif)."""
        names: dict[str, list[str]] = {}
        for name in (*self.shapes, *self.slices):
            stem = Path(_composed(name)).stem
            for text in {_composed(name), stem, stem.removesuffix(".ome")}:
                names.setdefault(text, []).append(name)
        return names

    def find(self, text: str) -> str:
        """Return the name of the image that a file calls `text`: a name, with or without folders and suffix.

        Returns `text` itself if there is no such image.

        Raises:
            DataError: several images have that name.
        """
        base = re.split(r"[/\\]", _composed(text))[-1]
        exact = [name for name in self.by_text.get(base, []) if _composed(name) == base]
        if exact:
            return exact[0]
        stem = Path(base).stem if Path(base).suffix.lower() in IMAGE_SUFFIXES else base
        names = self.by_text.get(stem, [])
        if len(names) > 1:
            raise DataError(f"{text!r} may be any of the images {', '.join(sorted(names))}; name it with its suffix")
        return names[0] if names else text

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


def folders_of(text: str) -> tuple[str, ...]:
    """Return the folders in a text that names an image, without drives and dots."""
    parts = [part for part in re.split(r"[/\\]", _composed(text)) if part not in ("", ".", "..")]
    return tuple(part for part in parts[:-1] if not part.endswith(":"))


def _composed(text: str) -> str:
    """Return a text in composed letters (NFC); macOS writes file names in decomposed ones."""
    return unicodedata.normalize("NFC", text)
