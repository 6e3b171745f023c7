"""The errors that LooseBox raises for inputs that it cannot use.

DataError
├── AuditError             results do not belong to their row, or a model is tested on its training images
├── WeightsError           a checkpoint does not fit its backbone
├── TrainingError          a training has diverged, or the model lacks a part to train
├── DownloadError          a file cannot be fetched
└── StaleEmbeddingsError   cached embeddings are of other images, weights or settings
"""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOENT
from pathlib import Path


class DataError(ValueError):
    """An input cannot be used. The message names the file or key, what was expected and found, and what to do."""


class AuditError(DataError):
    """Results are not those of the experiment that the tables describe. The message begins with the check's name."""


class WeightsError(DataError):
    """A checkpoint does not have the tensors of its backbone."""


class TrainingError(DataError):
    """A loss or gradient is not finite, or the model lacks a part to train."""


class DownloadError(DataError):
    """A file cannot be fetched, or is not the expected one."""


class StaleEmbeddingsError(DataError):
    """Cached embeddings were computed from other images, weights or settings than the current ones."""


@contextmanager
def intact(path: str | Path) -> Iterator[None]:
    """Turn errors of reading a missing or damaged file into a DataError that names it.

    Errors of the machine, such as a full disk or missing permissions, are raised unchanged.
    """
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # the library of each format has errors of its own
        is_of_machine = isinstance(error, OSError) and error.errno not in (None, ENOENT)
        if is_of_machine:
            raise
        raise DataError(
            f"{path}: missing or damaged; if it is a result, delete it and run again ({error!r})"
        ) from error
