"""Which files hold images, by their suffixes, and in which order they come."""

import re
from collections.abc import Iterator
from pathlib import Path

TIFF = {".tif", ".tiff"}
PICTURES = {".png", ".jpg", ".jpeg", ".bmp"}
SLICES = {*PICTURES, *TIFF}
MRC = {".mrc", ".mrcs", ".st", ".rec", ".ali"}
IMAGES = PICTURES | TIFF | MRC
ZARR = ("zarr.json", ".zarray", ".zgroup")  # one of them marks a folder as Zarr, of version 3 or 2


def is_zarr(folder: Path) -> bool:
    """Whether a folder is a Zarr array or group."""
    return any((folder / mark).exists() for mark in ZARR)


def slice_files(folder: Path) -> list[Path]:
    """The slices in a folder, in their order."""
    slices = (f for f in folder.iterdir() if f.suffix.lower() in SLICES and not f.name.startswith("."))
    return sorted(slices, key=natural_order)


def natural_order(file: Path) -> tuple[list[tuple[int, str]], str]:
    """A key that sorts s2 before s10, as the numbers in a name count as numbers, and s01 before s1."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.name)], file.name


def is_image(place: Path) -> bool:
    """Whether a file, or a folder of Zarr, has the form of an image that can be read."""
    return place.suffix.lower() in IMAGES or is_zarr(place)


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files and the folders of Zarr in a folder and in its folders, in the order of their names.

    Names that begin with a dot are left out, and so are links to a folder that they lie in, or in `above`.
    """
    here = (*above, folder.resolve())
    for place in sorted(folder.iterdir(), key=natural_order):
        if place.name.startswith("."):
            continue
        if not place.is_dir() or is_zarr(place):
            yield place
        elif place.resolve() not in (*here, *folder.resolve().parents):
            yield from files_below(place, here)
