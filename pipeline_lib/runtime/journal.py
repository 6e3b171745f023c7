"""Work that outlives its process: a job notes each piece that it has finished, and a restarted job leaves those out."""

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

LOCK_SECONDS = 120


log = logging.getLogger(__name__)


class Journal:
    """The finished pieces of a job, each a line of JSON, in the order in which they were added.

    `key` stands for everything that decides the pieces: a journal with another key is of another job and starts anew. A
    line counts once it has its end, so what a process was killed in the middle of is cut off, and what is damaged.

    Raises:
        DataError: another process has the journal open, so the same job is running twice, and keeps it open for
            `LOCK_SECONDS`, within which a file server gives up the locks of a machine that was lost.
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
        """Note a piece, on disk when this returns; numbers may be NumPy's."""
        self._write(json.dumps(piece, default=lambda number: number.item()).encode() + b"\n")
        self._count += 1

    def clear(self) -> None:
        """Forget all pieces."""
        self._file.truncate(0)
        self._write(self._head)
        self._count = 0

    def delete(self) -> None:
        """Remove the file: the job has its outputs."""
        self.path.unlink(missing_ok=True)  # where the same job ran twice and there are no locks

    def _write(self, line: bytes) -> None:
        with naming(self.path):
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())

    def _cut_damaged(self) -> int:
        """Cut off all from the first line on that is torn or no JSON; the number of those before it."""
        count, end = 0, len(self._head)
        for line in self._file:
            try:
                if not line.endswith(b"\n"):
                    break
                json.loads(line)
            except ValueError:
                log.warning("%s: piece %d is damaged, it and those after it are made again", self.path, count)
                break
            count, end = count + 1, end + len(line)
        self._file.truncate(end)
        return count

    def _open(self) -> None:
        """Open the file and lock it: the one at the path, for who had the lock before may have removed it."""
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
                    message = f"{self.path}: another process is at work on the same job; cancel one of them"
                    raise DataError(message) from error
                time.sleep(1)
            except OSError as error:  # some network file systems have none
                log.warning("%s: no lock against a second process: %s", self.path, error)
                return
