"""Outputs are there whole or not at all, and what a killed process has left goes."""

import os
import subprocess
import sys
from pathlib import Path
from socket import gethostname

import pytest

from pipeline_lib.runtime.atomic import atomic


def left_by(process: int, folder: Path, host: str | None = None) -> Path:
    """A folder that a process would be writing `out` to."""
    partial = folder / f".out.{host or gethostname()}.{process}.partial"
    partial.mkdir()
    (partial / "half").write_text("written")
    return partial


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    gone = left_by(ended.pid, tmp_path)
    running = left_by(os.getppid(), tmp_path)
    elsewhere = left_by(ended.pid, tmp_path, "another-host")
    other = tmp_path / f".another.{gethostname()}.{ended.pid}.partial"
    other.mkdir()
    with atomic(tmp_path / "out") as partial:
        partial.write_text("whole")
    assert (tmp_path / "out").read_text() == "whole"
    assert [path.exists() for path in (gone, running, elsewhere, other)] == [False, True, True, True]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("before")
    with pytest.raises(IsADirectoryError), atomic(tmp_path / "out") as partial:
        partial.mkdir() or partial.write_text("half")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").read_text() == "before"
