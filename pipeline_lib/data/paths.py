"""Where files lie: those behind a path that a user gives, and the results of one combination of the experiment."""

import re
from pathlib import Path
from typing import NamedTuple

HDF5 = re.compile(r"(?P<file>.+\.(?:h5|hdf5))(?::(?P<dataset>.*))?", re.IGNORECASE)


def files_of(path: str | Path) -> list[Path]:
    """The files behind a stack's path, one by one: a folder's time does not tell that a file in it was overwritten."""
    match = HDF5.fullmatch(str(path))
    place = Path(match["file"] if match else path)
    return sorted(file for file in place.rglob("*") if file.is_file()) if place.is_dir() else [place]


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
