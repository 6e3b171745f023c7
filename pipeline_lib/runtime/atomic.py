"""Write outputs so that they appear either complete or not at all."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from socket import gethostname

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a full disk, a quota or a limit on file sizes


def to_disk(path: str | Path) -> None:
    """Wait until a file's bytes are on disk, so that they survive a crash of the machine."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def replace(finished: str | Path, final: str | Path) -> None:
    """Rename a file or folder to `final`, and replace what is there. A file is on disk before it is renamed."""
    if Path(final).is_dir():
        shutil.rmtree(final)
    if Path(finished).is_file():
        to_disk(finished)
    os.replace(finished, final)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Add the path that is being written to errors of a full disk: libraries raise them without a name."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        raise OSError(error.errno, f"{os.strerror(error.errno)}, while this was written", str(path)) from error


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write a file or folder to. On success it is renamed to `path`.

    An existing `path` is replaced. On failure the temporary file is removed. Its name contains host and process, so
    that two jobs never share one. Temporary files of killed processes of this host are removed.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(final)
    partial = final.with_name(f".{final.name}.{gethostname()}.{os.getpid()}.partial")
    _remove(partial)  # left by another process of this number: each container counts processes from 1
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


def _remove_leftovers(final: Path) -> None:
    """Remove temporary files beside `final` whose process has ended."""
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
    except PermissionError:  # the process is another user's
        return True
    return True
