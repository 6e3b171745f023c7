"""What can happen to each stage, and what comes of it: the results of an undisturbed run, or a named error.

A stage is killed at a random moment, finds the disk full, or one of its inputs lost or damaged in some way.
"""

import os
import random
import shutil
import time
from pathlib import Path

import pytest
from helpers.chain import STAGES, Stage

from pipeline_lib.errors import DataError

KILLS = 2  # of each stage
SIZES = (500, 20_000)  # bytes of a file that a full disk has room for


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an experiment that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("chain")
    for stage in STAGES.values():
        stage.call(folder)
    return folder


@pytest.fixture(params=STAGES)
def stage(request: pytest.FixtureRequest) -> Stage:
    return STAGES[request.param]


@pytest.fixture
def before(chain: Path, stage: Stage, tmp_path: Path) -> Path:
    """A copy of that folder in which the stage has not run."""
    folder = tmp_path / "copy"
    shutil.copytree(chain, folder)
    for output in stage.outputs.values():
        shutil.rmtree(folder / output) if (folder / output).is_dir() else (folder / output).unlink()
    if stage.name == "raw":
        shutil.rmtree(folder / "raw")
    return folder


def left_behind(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".partial")]


def test_a_stage_that_was_killed_ends_as_if_it_had_not(chain: Path, stage: Stage, before: Path) -> None:
    started = time.monotonic()
    assert stage.run(before).returncode == 0
    length = time.monotonic() - started
    assert stage.written(before) == stage.written(chain)
    draws = random.Random(stage.name)
    for _ in range(KILLS):  # the second goes on where the first was killed
        for output in stage.outputs.values():
            path = before / output
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        stage.run(before, seconds=draws.uniform(0, 0.7) * length)
    assert stage.run(before).returncode == 0
    assert stage.written(before) == stage.written(chain)
    assert not left_behind(before)


@pytest.mark.parametrize("size", SIZES)
def test_a_full_disk_is_named_and_costs_nothing_else(chain: Path, stage: Stage, before: Path, size: int) -> None:
    process = stage.run(before, disk=size)
    if process.returncode == 0:  # all of it was small enough
        assert stage.written(before) == stage.written(chain)
        return
    assert str(before) in process.stderr.splitlines()[-1]
    assert not left_behind(before)
    stage.call(before)
    assert stage.written(before) == stage.written(chain)


def lost(file: Path) -> None:
    file.unlink()


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def overwritten(file: Path) -> None:
    """With bytes that are no text and no file of any format."""
    file.write_bytes(random.Random(0).randbytes(file.stat().st_size))


def complaint_of(stage: Stage, folder: Path) -> str:
    """The project's own error that the stage ends with; any other one fails the test."""
    try:
        stage.call(folder)
    except DataError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("damage", [lost, emptied, cut, overwritten])
def test_a_damaged_input_is_named_or_does_not_matter(chain: Path, stage: Stage, before: Path, damage) -> None:
    expected = stage.written(chain)
    for file in stage.read_files(before):
        kept, times = file.read_bytes(), file.stat()
        damage(file)
        complaint = complaint_of(stage, before)
        if complaint:
            array = next((str(part) for part in file.parents if part.suffix == ".zarr"), file.name)
            assert any(name in complaint for name in (file.name, str(file.parent), array)), f"{file}: {complaint}"
        else:
            assert stage.written(before) == expected, file
        file.write_bytes(kept)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert not left_behind(before)
    stage.call(before)
    assert stage.written(before) == expected
