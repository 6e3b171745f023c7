"""Where files lie: those behind a path that a user gives, and the results of one combination of the experiment."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HDF5 = re.compile(r"(?P<file>.+\.(?:h5|hdf5))(?::(?P<dataset>.*))?", re.IGNORECASE)


def files_of(path: str | Path) -> list[Path]:
    """The files behind a stack's path, one by one: a folder's time does not tell that a file in it was overwritten.

    Folders that are links are entered, as `files_below` of `data/image_files.py` does.
    """
    match = HDF5.fullmatch(str(path))
    place = Path(match["file"] if match else path)
    return sorted(_files_in(place, ())) if place.is_dir() else [place]


def _files_in(folder: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    here = (*above, folder.resolve())
    for place in folder.iterdir():
        if place.is_file():
            yield place
        elif place.is_dir() and place.resolve() not in here:
            yield from _files_in(place, here)


JOINT = "joint"  # in place of the data set of a training on several data sets together


class Training(NamedTuple):
    """A trained model of the experiment; its files lie at `{dataset}/{model}/{seed}.*` in the folder of stage train."""

    dataset: str  # or `JOINT`
    model: str
    seed: int

    @classmethod
    def of(cls, path: str) -> "Training":
        """The training whose file lies at `path`."""
        dataset, model, seed = Path(path).with_suffix("").parts[-3:]
        return cls(dataset, model, int(seed))


class Cell(NamedTuple):
    """One combination of the experiment; its files lie at `{dataset}/{model}/{seed}/{level}.*` in a stage's folder."""

    dataset: str
    model: str
    seed: int
    level: int

    @classmethod
    def of(cls, path: str) -> "Cell":
        """The cell whose file lies at `path`."""
        *training, level = Path(path).with_suffix("").parts[-4:]
        return cls(*Training.of("/".join(training)), int(level))
