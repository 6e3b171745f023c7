"""Arrays on disk as dask arrays, a chunk per slice; what fails when a slice is read names its file."""

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
    """What tifffile warns of in this thread: a missing companion of an OME-TIFF reads as zeros."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.thread, self.messages = threading.get_ident(), list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread:
            self.messages.append(record.getMessage())


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn what the libraries raise on damaged files, or warn of, into a DataError that names the file."""
    said, logger = _Warnings(), logging.getLogger("tifffile")
    logger.addHandler(said)
    try:
        yield
        if said.messages:
            raise DataError(f"{path}: {'; '.join(said.messages)}")
    except DataError:
        raise
    except Exception as error:  # each library and codec has its own, down to Pillow's SyntaxError
        raise DataError(f"{path}: cannot be read; is it truncated or damaged? ({error})") from error
    finally:
        logger.removeHandler(said)


def lazy(path: str, array: Any) -> da.Array:
    """A chunk per slice; a single YX image becomes a stack of one."""
    # here and not by `stack[None]`, through which dask reads a whole slice where a part is asked for
    array = _OneSlice(array, (1, *array.shape), array.dtype) if array.ndim == 2 else array
    source = _StoredArray(path, array, array.shape, array.dtype, array.ndim)
    stack: da.Array = da.from_array(source, chunks=(1,) * (source.ndim - 2) + source.shape[-2:])
    return stack


@dataclass(frozen=True)
class _StoredArray:
    """An array on disk as dask takes it, with the file's name for what may go wrong when a slice is read."""

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
        chosen, *within = where
        part = np.asarray(self.image[tuple(within)])
        return part[None][chosen] if isinstance(chosen, slice) else part
