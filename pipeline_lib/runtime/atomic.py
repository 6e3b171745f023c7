"""Outputs that are there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname


def to_disk(path: str | Path) -> None:
    """Wait until a file's bytes are on disk, where a crash of the machine leaves them."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def replace(finished: str | Path, final: str | Path) -> None:
    """Rename a file or folder to `final`, in the place of whatever is there; a file is on disk before that."""
    if Path(final).is_dir():
        shutil.rmtree(final)
    if Path(finished).is_file():
        to_disk(finished)
    os.replace(finished, final)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a sibling path to write a file or folder to; it becomes `path` on success and is removed on failure.

    An existing `path` is replaced. The names of host and process are part of its own, so that two jobs never share one.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{gethostname()}.{os.getpid()}.partial")
    try:
        yield partial
        replace(partial, final)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)
