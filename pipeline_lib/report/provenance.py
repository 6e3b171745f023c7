"""What was run, on what, from which files."""

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pipeline_lib.data.tables import read_json

PACKAGES = ("loosebox", "numpy", "pandas", "scipy", "torch", "segment-anything-py", "zarr", "snakemake", "matplotlib")
STAGES = ("raw", "convert", "boxes", "weights", "embed", "train", "refine", "score", "audit", "tables", "analysis")


def data_files(manifests: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The files of each volume, as the stage raw found them: how many, and a digest of their bytes."""
    for manifest in manifests:
        for volume in read_json(manifest)["volumes"]:
            for kind, files in volume["files"].items():
                yield {"dataset": Path(manifest).parent.name, "path": volume[kind], **files}


def versions() -> dict[str, str]:
    """Of Python and the packages that are here: on a cluster Snakemake itself runs elsewhere."""
    numbers = {"Python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            numbers[name] = version(name)
    return numbers


def hardware() -> dict[str, str]:
    """Of the machine that makes the report."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.release()}",
    }


def time_spent(benchmarks: Path) -> Iterator[dict[str, Any]]:
    """Of each stage: jobs, their time one after the other, the longest, and the largest memory, from benchmarks."""
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
