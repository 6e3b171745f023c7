"""Where files lie."""

import re
from pathlib import Path

HDF5 = re.compile(r"(?P<file>.+\.(?:h5|hdf5))(?::(?P<dataset>.*))?", re.IGNORECASE)


def files_of(path: str | Path) -> list[Path]:
    """The files behind a stack's path, one by one: a folder's time does not tell that a file in it was overwritten."""
    match = HDF5.fullmatch(str(path))
    place = Path(match["file"] if match else path)
    return sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]
