"""Divide data sets into folds: blocks of slices that are tested in turn."""

from itertools import pairwise

from pipeline_lib.errors import DataError
from pipeline_lib.settings.config import Config
from pipeline_lib.settings.datasets import Split, Volume


def fold_names(config: Config, dataset: str) -> list[str]:
    """Return the names of the folds of a data set. There are none if it has no `folds`."""
    count = (config.datasets[dataset].folds or 0) if dataset in config.datasets else 0
    return [f"{dataset}_{number + 1}" for number in range(count)]


def with_folds(config: Config) -> Config:
    """Return a configuration in which the folds of a data set replace it in the experiment.

    Each fold is a data set, NAME_1, NAME_2, …, with the volumes of `fold`.

    Raises:
        DataError: Another data set has the name of a fold, or a volume cannot be divided.
    """
    datasets, names = dict(config.datasets), list[str]()
    for name in config.experiment.datasets:
        folds = fold_names(config, name)
        if duplicates := sorted(config.datasets.keys() & folds):
            raise DataError(
                f"config: datasets.{name} has folds, so {duplicates[0]} cannot be the name of another data set; "
                "rename it"
            )
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
    """Return a volume whose block `number` is for testing, the next block for validation, and the others for training.

    Blocks are runs of slices, from the first to the last slice of the splits of the volume. The first block follows the
    last one. If training slices lie on both sides of the two blocks, there are two volumes with the same files.

    Args:
        dataset: Name of the data set, for messages.
        volume: The volume.
        number: Number of the fold, from 0.
        count: Number of folds.

    Raises:
        DataError: The splits are not one run of slices, or have fewer slices than folds.
    """
    # The run of slices
    ranges, every = sorted(volume.split.ranges().values()), volume.every
    where = f"config: datasets.{dataset} ({volume.images})"
    if len(ranges) < len(volume.split.parts()):
        raise DataError(f"{where}: expected ranges of slices, because the data set has folds, but a split names files")
    (first, _), (_, last) = ranges[0], ranges[-1]
    slices = len(range(first, last, every))
    if any(stop != start for (_, stop), (start, _) in pairwise(ranges)):
        splits = [list(bounds) for bounds in ranges]
        raise DataError(
            f"{where}: expected splits that are one run of slices, because the data set has folds; found {splits}"
        )
    if slices < count:
        raise DataError(f"{where}: expected at most {slices} folds, one for each slice; found {count}. Lower `folds`")
    # Its blocks: training slices lie before, between and after the other two
    edges = [*(first + every * (slices * block // count) for block in range(count)), last]
    blocks = list(pairwise(edges))
    test, validation = blocks[number], blocks[(number + 1) % count]
    low, high = sorted([test, validation])
    sides = [(first, low[0]), (low[1], high[0]), (high[1], last)]
    train, *others = ((start, stop) for start, stop in sides if start < stop)
    parts = [Split(train=train, validation=validation, test=test), *(Split(train=side) for side in others)]
    return [volume.model_copy(update={"split": split}) for split in parts]


def parts_of_datasets(config: Config) -> dict[str, list[str]]:
    """Return the data sets of the tables by name, each with its folds, or with itself if it has no folds.

    A data set with folds comes before its folds, which are data sets of the tables too.

    Args:
        config: The configuration before `with_folds`.
    """
    parts: dict[str, list[str]] = {}
    for name in config.experiment.datasets:
        folds = fold_names(config, name)
        parts |= {name: folds or [name]} | {part: [part] for part in folds}
    return parts
