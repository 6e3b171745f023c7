"""Outputs that are there whole or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from socket import gethostname

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk that is full, or a quota or limit, answers


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
def naming(path: str | Path) -> Iterator[None]:
    """Give the errors of a full disk, which name no file where a library writes, the name of what was to be written."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        raise OSError(error.errno, f"{os.strerror(error.errno)}, while this was written", str(path)) from error


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a sibling path to write a file or folder to; it becomes `path` on success and is removed on failure.

    An existing `path` is replaced. The names of host and process are part of its own, so that two jobs never share one;
    what a process of this host that was killed has left is removed.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_left(final)
    partial = final.with_name(f".{final.name}.{gethostname()}.{os.getpid()}.partial")
    _remove(partial)  # of another process of this number, as where each container counts anew
    try:
        with naming(final):
            yield partial
            replace(partial, final)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _remove_left(final: Path) -> None:
    """Remove the unfinished siblings of `final` whose process is gone."""
    start = f".{final.name}.{gethostname()}."
    for partial in final.parent.glob(f"{escape(start)}*.partial"):
        process = partial.name.removeprefix(start).removesuffix(".partial")
        if process.isdigit() and not _is_running(int(process)):
            _remove(partial)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
