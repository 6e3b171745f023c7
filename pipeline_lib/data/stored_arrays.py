"""Read arrays on disk as dask arrays with a chunk for each slice. Errors name the file."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np

from pipeline_lib.errors import DataError


class _Warnings(logging.Handler):
    """Collect the warnings of tifffile in this thread, such as that a companion of an OME-TIFF is missing."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread, self.messages = threading.get_ident(), list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.messages.append(record.getMessage())


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Convert exceptions and warnings of libraries, which read damaged files, to a DataError that names the file."""
    warnings, logger = _Warnings(), logging.getLogger("tifffile")
    logger.addHandler(warnings)
    try:
        yield
        if warnings.messages:  # tifffile would read what is missing as zeros
            raise DataError(f"{path}: {'; '.join(warnings.messages)}. Copy the image again, with all its files")
    except DataError:
        raise
    except Exception as error:  # each library and codec has exceptions of its own; Pillow raises SyntaxError
        raise DataError(
            f"{path}: cannot be read ({error}). It may be truncated or damaged. Copy the file again"
        ) from error
    finally:
        logger.removeHandler(warnings)


def lazy(path: str, array: Any) -> da.Array:
    """Return an array on disk as a dask array with a chunk for each slice.

    Args:
        path: Path of the file, for messages.
        array: Pixels with `shape`, `dtype` and `ndim`. A YX image becomes a stack of one slice.
    """
    # `stack[None]` in dask would read a whole slice for a part of it
    array = _OneSlice(array, (1, *array.shape), array.dtype) if array.ndim == 2 else array
    source = _StoredArray(path, array, array.shape, array.dtype, array.ndim)
    stack: da.Array = da.from_array(source, chunks=(1,) * (source.ndim - 2) + source.shape[-2:])
    return stack


@dataclass(frozen=True)
class _StoredArray:
    """An array on disk as dask reads it. Errors name the file."""

    path: str
    array: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    ndim: int

    def __getitem__(self, where: Any) -> Any:
        with reading(self.path):
            return self.array[where]


@dataclass(frozen=True)
class _OneSlice:
    """A YX image as a stack ZYX of one slice."""

    image: Any
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, where: tuple[Any, ...]) -> Any:
        z, *within = where
        part = np.asarray(self.image[tuple(within)])
        return part[None][z] if isinstance(z, slice) else part
