"""Collect the provenance of results: data files, versions, and time and memory of the jobs."""

import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline_lib.data.tables import read_json

PACKAGES = ("loosebox", "numpy", "pandas", "scipy", "torch", "segment-anything-py", "zarr", "snakemake", "matplotlib")
STAGES = ("raw", "convert", "boxes", "weights", "embed", "train", "refine", "score", "audit", "tables", "analysis")


def data_files(manifests: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yield the files of each volume from the manifests of the stage raw: their number and a digest of their bytes."""
    for manifest in manifests:
        for volume in read_json(manifest)["volumes"]:
            for kind, files in volume["files"].items():
                yield {"dataset": Path(manifest).parent.name, "path": volume[kind], **files}


def versions() -> dict[str, str]:
    """Return the versions of Python and of installed packages. On a cluster, Snakemake may not be installed here."""
    numbers = {"Python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            numbers[name] = version(name)
    return numbers


def time_spent(benchmarks: Path) -> Iterator[dict[str, Any]]:
    """Yield for each stage its number of jobs, their total and longest time, and the largest memory.

    Args:
        benchmarks: Snakemake's benchmark files, in a folder for each stage.
    """
    for stage in STAGES:
        single = benchmarks / f"{stage}.tsv"
        files = [single] if single.exists() else sorted((benchmarks / stage).rglob("*.tsv"))
        if files:
            jobs = pd.concat([pd.read_csv(file, sep="\t", na_values="-") for file in files])
            yield {
                "stage": stage,
                "jobs": len(jobs),
                "total": str(timedelta(seconds=round(jobs["s"].sum()))),
                "longest": str(timedelta(seconds=round(jobs["s"].max()))),
                "memory": f"{jobs['max_rss'].max():.0f} MiB" if jobs["max_rss"].notna().any() else "",
            }
