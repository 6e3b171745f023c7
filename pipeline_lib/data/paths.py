"""Find the files of a stack, and name the results of a combination of the experiment."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HDF5 = re.compile(r"(?P<file>.+\.(?:h5|hdf5))(?::(?P<dataset>.*))?", re.IGNORECASE)


def files_of(path: str | Path) -> list[Path]:
    """Return all files of a stack. If it is a folder, they include those of subfolders and linked folders.

    Changes are noticed file by file, because the time of a folder does not change when a file in it is overwritten.
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


JOINT = "joint"  # stands for the data set if a model is trained on several data sets together


class Training(NamedTuple):
    """A trained model of the experiment. Its files are `{dataset}/{model}/{seed}.*` in the folder of stage `train`."""

    dataset: str  # or `JOINT`
    model: str
    seed: int

    @classmethod
    def of(cls, path: str) -> "Training":
        """Return the training whose file is at a path."""
        dataset, model, seed = Path(path).with_suffix("").parts[-3:]
        return cls(dataset, model, int(seed))


class Cell(NamedTuple):
    """A combination of the experiment. Its files are `{dataset}/{model}/{seed}/{level}.*` in the folder of a stage."""

    dataset: str
    model: str
    seed: int
    level: int

    @classmethod
    def of(cls, path: str) -> "Cell":
        """Return the cell whose file is at a path."""
        *training, level = Path(path).with_suffix("").parts[-4:]
        return cls(*Training.of("/".join(training)), int(level))
