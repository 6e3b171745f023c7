"""Record the finished pieces of a job on disk, so that a restarted job can skip them."""

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline_lib.errors import DataError
from pipeline_lib.runtime.atomic import naming

LOCK_SECONDS = 120  # to wait for the lock: file servers release the locks of a lost machine within this time


log = logging.getLogger(__name__)


class Journal:
    """The finished pieces of a job, each a line of JSON, in the order in which they were added.

    `key` is a digest of all inputs and settings of the job. If the file has another key, it belongs to another job and
    is emptied. If a line is incomplete or damaged, it is removed with all lines after it.

    Raises:
        DataError: another process keeps the journal open for `LOCK_SECONDS`, so the same job is running twice.
    """

    def __init__(self, path: str | Path, key: str) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._open()
        self._head = json.dumps({"key": key}).encode() + b"\n"
        self._file.seek(0)
        if self._file.readline() == self._head:
            self._count = self._cut_damaged()
            log.info("%s: %d finished pieces are kept", self.path, self._count)
        else:
            self.clear()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with naming(self.path):
            self._file.close()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        """Read the pieces from disk, one at a time."""
        self._file.seek(len(self._head))
        for line in self._file:
            yield json.loads(line)

    def add(self, piece: Any) -> None:
        """Add a piece. It is on disk when this returns. Its numbers can be NumPy's."""
        self._write(json.dumps(piece, default=lambda number: number.item()).encode() + b"\n")
        self._count += 1

    def clear(self) -> None:
        """Remove all pieces."""
        self._file.truncate(0)
        self._write(self._head)
        self._count = 0

    def delete(self) -> None:
        """Remove the file, once the job has written its outputs."""
        self.path.unlink(missing_ok=True)  # missing if the same job runs twice on a file system without locks

    def _write(self, line: bytes) -> None:
        with naming(self.path):
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())

    def _cut_damaged(self) -> int:
        """Remove the first line that is incomplete or not JSON, and all lines after it. Return how many remain."""
        count, end = 0, len(self._head)
        for line in self._file:
            try:
                if not line.endswith(b"\n"):
                    break
                json.loads(line)
            except ValueError:
                log.warning("%s: piece %d is damaged; it and all later pieces are computed again", self.path, count)
                break
            count, end = count + 1, end + len(line)
        self._file.truncate(end)
        return count

    def _open(self) -> None:
        """Open and lock the file at the path. Try again if the previous holder of the lock has removed it."""
        while True:
            self._file = open(self.path, "a+b")  # noqa: SIM115 - closed on leaving
            self._lock()
            if self.path.exists() and os.path.samestat(os.fstat(self._file.fileno()), self.path.stat()):
                return
            self._file.close()

    def _lock(self) -> None:
        end = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except (BlockingIOError, PermissionError) as error:
                if time.monotonic() > end:
                    message = f"{self.path}: another process is working on the same job; cancel one of them"
                    raise DataError(message) from error
                time.sleep(1)
            except OSError as error:  # some network file systems have no locks
                log.warning("%s: no lock against a second process: %s", self.path, error)
                return
