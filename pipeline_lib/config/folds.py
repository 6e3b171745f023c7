"""Folds: data sets that are cut into blocks, each of which is tested once."""

from itertools import pairwise

from pipeline_lib.errors import DataError
from pipeline_lib.settings.config import Config
from pipeline_lib.settings.datasets import Split, Volume


def fold_names(config: Config, dataset: str) -> list[str]:
    """Return the names of a data set's folds: none if it is not cut up."""
    count = (config.datasets[dataset].folds or 0) if dataset in config.datasets else 0
    return [f"{dataset}_{number + 1}" for number in range(count)]


def with_folds(config: Config) -> Config:
    """Return a configuration whose experiment has the folds of each data set in place of one that has `folds`.

    Each fold is a data set of its own, NAME_1, NAME_2, …, with the volumes of `fold`.

    Raises:
        DataError: another data set has the name of a fold, or a volume cannot be cut.
    """
    datasets, names = dict(config.datasets), list[str]()
    for name in config.experiment.datasets:
        folds = fold_names(config, name)
        if taken := sorted(config.datasets.keys() & folds):
            raise DataError(f"config: datasets.{name} has folds, but there is a data set called {taken[0]} already")
        for number, part in enumerate(folds):
            whole = config.datasets[name]
            datasets[part] = whole.model_copy(
                update={
                    "title": f"{whole.title}, fold {number + 1} of {len(folds)}",
                    "published": None,
                    "volumes": tuple(
                        piece for volume in whole.volumes for piece in fold(name, volume, number, len(folds))
                    ),
                    "folds": None,
                }
            )
        names += folds or [name]
    experiment = config.experiment.model_copy(update={"datasets": tuple(names)})
    return config.model_copy(update={"datasets": datasets, "experiment": experiment})


def fold(dataset: str, volume: Volume, number: int, count: int) -> list[Volume]:
    """Return a volume of which block `number` of `count` is tested, the next one validated on, the others trained on.

    Blocks are runs of slices, from the first to the last slice of the volume's splits. The first block follows the
    last one. Slices to train on can lie on both sides of the two blocks; then there are two volumes of the same files.
    """
    ranges, every = sorted(volume.split.ranges().values()), volume.every
    where = f"config: datasets.{dataset} ({volume.images})"
    if len(ranges) < len(volume.split.parts()):
        raise DataError(f"{where}: folds take ranges of slices, but a split names files")
    (first, _), (_, last) = ranges[0], ranges[-1]
    slices = len(range(first, last, every))
    if any(stop != start for (_, stop), (start, _) in pairwise(ranges)):
        splits = [list(bounds) for bounds in ranges]
        raise DataError(f"{where}: folds take slices in one run, but the splits are {splits}")
    if slices < count:
        raise DataError(f"{where}: {count} folds are expected of its {slices} slices; give at most {slices}")
    edges = [*(first + every * (slices * block // count) for block in range(count)), last]
    blocks = list(pairwise(edges))
    test, validation = blocks[number], blocks[(number + 1) % count]
    low, high = sorted([test, validation])
    sides = [(first, low[0]), (low[1], high[0]), (high[1], last)]
    train, *others = ((start, stop) for start, stop in sides if start < stop)
    parts = [Split(train=train, validation=validation, test=test), *(Split(train=side) for side in others)]
    return [volume.model_copy(update={"split": split}) for split in parts]


def parts_of_datasets(config: Config) -> dict[str, list[str]]:
    """Return the data sets of the tables, and those of the experiment that each is made from: its folds, or itself.

    A data set that is cut up stands before its folds. The configuration is the one before `with_folds`.
    """
    parts: dict[str, list[str]] = {}
    for name in config.experiment.datasets:
        folds = fold_names(config, name)
        parts |= {name: folds or [name]} | {part: [part] for part in folds}
    return parts
