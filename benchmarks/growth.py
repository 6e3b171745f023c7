"""Measure how each stage's time and memory grow with the data: `python -m benchmarks.growth`.

Each stage's function runs in a process of its own, on generated cells, for three numbers of slices. Time is the CPU
time within the function. An exponent of 1 means that time grows in proportion to the number of slices.
"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.measuring import Cost, in_process, machine, table
from benchmarks.small_experiment import stage_arguments
from pipeline_lib.api import backbone_choice

TIMES = (1, 4, 16)
CODE = """
import json, sys, time
from benchmarks.small_experiment import stage_call
call = stage_call(sys.argv[1], json.loads(sys.argv[2]))
start = time.process_time()
call()
print(time.process_time() - start)
"""


def exponent(slices: list[int], costs: list[Cost]) -> str:
    """Return the slope of log(time) over log(slices), by least squares."""
    return f"{np.polyfit(np.log(slices), np.log([cost.seconds for cost in costs]), 1)[0]:.2f}"


def measured(slices: list[int], side: int, backbone: str) -> str:
    """Return a table with a row for each stage."""
    costs: dict[str, list[Cost]] = {}
    for count in slices:
        with TemporaryDirectory() as folder:
            arguments = stage_arguments(Path(folder), count, side, backbone_choice(backbone))
            for stage, values in arguments.items():
                costs.setdefault(stage, []).append(in_process(CODE, stage, json.dumps(values)))
    rows = [
        [
            stage,
            *(f"{cost.seconds:.2f}" for cost in each),
            exponent(slices, each),
            exponent(slices[1:], each[1:]),
            *(f"{cost.peak:.0f}" for cost in each),
        ]
        for stage, each in costs.items()
    ]
    seconds, peaks = ([f"{name}, {count} slices" for count in slices] for name in ("CPU s", "peak MB"))
    return table(["stage", *seconds, "exponent", "exponent of the larger two", *peaks], rows)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", choices=["micro", "litemedsam"], default="micro")
    parser.add_argument("--slices", type=int, default=12, help="slices of the smallest run, a multiple of three")
    parser.add_argument("--side", type=int, default=256, help="side of a slice, pixels")
    arguments = parser.parse_args()
    slices = [arguments.slices * times for times in TIMES]
    print(machine(1), measured(slices, arguments.side, arguments.backbone), sep="\n\n")


if __name__ == "__main__":
    main()
