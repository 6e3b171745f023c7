"""A SLURM for the session, and the experiment's outcome without any."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.on_slurm import EXPERIMENT, OF_SET
from helpers.one_node import OneNode, missing_programs
from helpers.running import finished_run

from pipeline_lib.data.example_set import write_example_set


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneNode]:
    if missing := missing_programs():
        pytest.skip(f"no SLURM here: {', '.join(missing)} not found (`make system` installs them on Debian, as root)")
    with OneNode(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run without SLURM and without disturbance."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_example_set(folder / "example")
    return finished_run(folder, EXPERIMENT, "all", OF_SET)
