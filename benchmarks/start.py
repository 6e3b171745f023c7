"""What a job waits for before its stage begins: `python -m benchmarks.start [--rounds 5]`."""

import argparse
import subprocess
import sys
from statistics import median

from benchmarks.report import machine, table, write_section

STAGES = ("raw", "convert", "boxes", "score", "tables", "weights", "embed", "train", "refine")
CODE = "import sys, time; import pipeline_lib.{}; print(time.process_time(), len(sys.modules), 'torch' in sys.modules)"


def start(stage: str, rounds: int) -> list[str]:
    """A stage's row: CPU seconds of a fresh interpreter that imports it, and what it then holds."""
    command = [sys.executable, "-c", CODE.format(stage)]
    shown = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() for _ in range(rounds)]
    return [stage, f"{median(float(seconds) for seconds, *_ in shown):.2f}", *shown[0][1:]]


def main() -> None:
    """Measure, and write the README's section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    rows = [start(stage, rounds) for stage in STAGES]
    columns = ["stage", "CPU s to import it", "modules", "torch among them"]
    write_section("start", f"{machine()}; medians of {rounds} fresh interpreters.\n\n{table(columns, rows)}")


if __name__ == "__main__":
    main()
