"""What can be wrong with the data a user brings.

DataError
├── AuditError             results that are not those of their row, or a test on what was trained on
├── WeightsError           a checkpoint that does not fit its backbone
├── TrainingError          a training that has diverged
├── DownloadError          a file that could not be fetched
└── StaleEmbeddingsError   cached embeddings of other images, weights or settings
"""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOENT
from pathlib import Path


class DataError(ValueError):
    """An input that cannot be used; the message names the file, what was expected and what came."""


class AuditError(DataError):
    """An experiment that is not what its tables would say; the message begins with the check's name."""


class WeightsError(DataError):
    """A checkpoint whose tensors are not those of the backbone."""


class TrainingError(DataError):
    """A loss or gradient that is no number any more, or a part to train that the model lacks."""


class DownloadError(DataError):
    """A file that could not be fetched, or is not the one that was asked for."""


class StaleEmbeddingsError(DataError):
    """Embeddings that were computed from other images, weights or settings than those at hand."""


@contextmanager
def intact(path: str | Path) -> Iterator[None]:
    """Turn what is raised on a damaged file, mostly of another stage, into a DataError that names it."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # each format's library has its own
        of_the_machine = isinstance(error, OSError) and error.errno not in (None, ENOENT)  # no rights, a full disk
        if of_the_machine:
            raise
        raise DataError(f"{path}: missing or damaged; a result is made again if deleted ({error!r})") from error
