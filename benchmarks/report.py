"""Times measured side by side, and the README's sections that hold them."""

import platform
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

README = Path(__file__).with_name("README.md")
# Not what `getrusage` tells: a child's maximum there begins with that of the process that started it.
PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
PACKAGES = ("torch", "segment-anything-py", "transformers", "micro-sam", "ultralytics")


@dataclass(frozen=True)
class Seconds:
    """What a call took."""

    busy: float  # of `clock`: CPU time of all threads, which other programs do not lengthen; wall time on a GPU
    wall: float


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    seconds: float  # as it says itself
    peak: float  # resident memory, MB


def in_process(code: str, *arguments: str) -> Cost:
    """Run Python code that prints the seconds of what it was to do, in an interpreter of its own; Linux only."""
    command = [sys.executable, "-c", code + PEAK, *arguments]
    seconds, peak = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return Cost(float(seconds), float(peak) * 1024 / 1e6)


def interleaved(ways: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Seconds]:
    """Median of each way. A round runs each once, so that what else the machine does meets all of them."""
    for way in ways.values():
        way()
    taken: dict[str, list[Seconds]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            taken[name].append(timed(way))
    return {name: Seconds(median(s.busy for s in each), median(s.wall for s in each)) for name, each in taken.items()}


def timed(way: Callable[[], object]) -> Seconds:
    """One call, to the end of what it asked of a GPU."""
    busy, wall = clock(), time.perf_counter()
    way()
    return Seconds(clock() - busy, time.perf_counter() - wall)


def by_operator(way: Callable[[], object]) -> str:
    """The operators that take most of a call's time on the processor, with their own shares, once it is warm."""
    way()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        way()
    operators = profile.key_averages()
    whole = sum(each.self_cpu_time_total for each in operators)
    largest = sorted(operators, key=lambda each: -each.self_cpu_time_total)[:10]
    return ", ".join(f"{each.key.removeprefix('aten::')} {each.self_cpu_time_total / whole:.0%}" for each in largest)


def machine() -> str:
    """The processor or card, its threads, and the versions of what was compared."""
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*:\s*(.+)", cpu)
    flags = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{flag}\b", cpu)]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else name[1] if name else platform.processor()
    versions = ", ".join(f"{package} {_version(package)}" for package in PACKAGES)
    return f"{device} ({', '.join(flags)}), {torch.get_num_threads()} threads; {versions}; {date.today().isoformat()}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_section(name: str, text: str) -> None:
    """Print a section of the README, and replace what stands there between its two marks."""
    print(text)
    marks = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = README.read_text().partition(marks[0])
    _, ended, after = rest.partition(marks[1])
    if not (found and ended):
        raise SystemExit(f"{README}: expected the lines {marks[0]} and {marks[1]}")
    README.write_text(f"{before}{marks[0]}\n{text}\n{marks[1]}{after}")
