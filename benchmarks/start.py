"""What a job waits for before its stage begins: `python -m benchmarks.start [--rounds 5]`."""

import argparse
import subprocess
import sys
import time
from statistics import median

from benchmarks.report import Seconds, machine, table, write_section

STAGES = ("raw", "convert", "boxes", "score", "tables", "weights", "embed", "train", "refine")
# Snakemake puts the first line before a script
CODE = """
import pickle, snakemake.iocontainers
import pipeline_lib.stages.{}
import sys, time
print(time.process_time(), len(sys.modules), "torch" in sys.modules)
"""


def start(stage: str, rounds: int) -> tuple[Seconds, list[str]]:
    """Medians of a fresh interpreter that imports a stage; how many modules it then holds, and whether torch's."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        command = [sys.executable, "-c", CODE.format(stage)]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        taken.append(Seconds(float(shown[0]), time.perf_counter() - began))
    return Seconds(median(each.busy for each in taken), median(each.wall for each in taken)), shown[1:]


def main() -> None:
    """Measure, and write the README's section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rows = []
    for stage in STAGES:
        seconds, held = start(stage, rounds)
        rows.append([stage, f"{seconds.busy:.2f}", f"{seconds.wall:.2f}", *held])
    columns = ["stage", "CPU s to import it", "wall s", "modules", "torch among them"]
    write_section("start", f"{machine()}; medians of {rounds} fresh interpreters.\n\n{table(columns, rows)}")


if __name__ == "__main__":
    main()
