"""Find the files that hold images, by their suffixes, in their natural order."""

import re
from collections.abc import Iterator
from pathlib import Path

TIFF = {".tif", ".tiff"}
PICTURES = {".png", ".jpg", ".jpeg", ".bmp"}
SLICES = {*PICTURES, *TIFF}
MRC = {".mrc", ".mrcs", ".st", ".rec", ".ali"}
IMAGES = PICTURES | TIFF | MRC
ZARR = ("zarr.json", ".zarray", ".zgroup")  # a folder with one of these files is Zarr, version 3 or 2


def is_zarr(folder: Path) -> bool:
    """Return whether a folder is a Zarr array or group."""
    return any((folder / mark).exists() for mark in ZARR)


def slice_files(folder: Path) -> list[Path]:
    """Return the files of slices in a folder, in natural order."""
    slices = (f for f in folder.iterdir() if f.suffix.lower() in SLICES and not f.name.startswith("."))
    return sorted(slices, key=natural_order)


def natural_order(file: Path) -> tuple[list[tuple[int, str]], str]:
    """Return a sorting key by which numbers in names count as numbers: s2 before s10, and s01 before s1."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file.name)], file.name


def is_image(place: Path) -> bool:
    """Return whether a path has the suffix of an image, or is a Zarr folder."""
    return place.suffix.lower() in IMAGES or is_zarr(place)


def files_below(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yield the files and Zarr folders in a folder and its subfolders, in natural order.

    Names that begin with a dot are left out. Links to a folder that contains them are left out too, because they would
    never end.

    Args:
        folder: The folder to search.
        above: Resolved folders that are being searched around it.
    """
    here = (*above, folder.resolve())
    for place in sorted(folder.iterdir(), key=natural_order):
        if place.name.startswith("."):
            continue
        if not place.is_dir() or is_zarr(place):
            yield place
        elif place.resolve() not in (*here, *folder.resolve().parents):
            yield from files_below(place, here)
