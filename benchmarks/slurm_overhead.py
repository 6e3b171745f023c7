"""What a job costs on SLURM beside its own work, and what groups save.

python tests/helpers/one_node.py python -m benchmarks.slurm_overhead     # on this machine
python -m benchmarks.slurm_overhead                                    # on a cluster, in a folder that its nodes see

The rule `boxes` runs on small data sets through the shipped profile, each job alone and all of them in one group; SLURM
says how long it held an allocation, the rule's `benchmark:` file how much of that was its own work.
"""

import json
import re
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import yaml

ROOT = Path(__file__).parents[1]
JOBS = 5
FAN_OUT = 90  # refine and score jobs of config.yaml's experiment, in groups of JOBS


def overlay() -> dict[str, object]:
    """Small data sets, all alike."""
    cells = yaml.safe_load((ROOT / "config.yaml").read_text())["datasets"]["cells"]
    cells["source"] |= {"slices": 3, "size": [64, 64]}
    cells["volumes"][0]["split"] = {"train": [0, 1], "validation": [1, 2], "test": [2, 3]}
    names = [f"d{number}" for number in range(JOBS)]
    return {"experiment": {"datasets": names}, "datasets": {name: cells for name in names}}


def snakemake(folder: Path, *arguments: str) -> None:
    """Run the workflow in `folder`."""
    base = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "-d", str(folder), *arguments]
    config = ["--configfile", str(ROOT / "config.yaml"), str(folder / "overlay.yaml")]
    subprocess.run([*base, *config], cwd=ROOT, check=True)


def allocations(folder: Path) -> list[float]:
    """Seconds that each SLURM job of the last run in `folder` held."""
    name = json.loads((folder / ".snakemake/controller").read_text())["name"]
    listed = subprocess.run(["scontrol", "-o", "show", "jobs"], capture_output=True, text=True, check=True).stdout
    jobs = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in listed.splitlines() if f"JobName={name} " in line]
    ends = [[datetime.fromisoformat(job[key]) for key in ("StartTime", "EndTime")] for job in jobs]
    return [(end - start).total_seconds() for start, end in ends]


def measure(folder: Path, *groups: str) -> tuple[list[float], float]:
    """Run every `boxes` job again: seconds of each allocation, and of all jobs' own work."""
    targets = [f"results/boxes/d{number}.csv" for number in range(JOBS)]
    # One at a time: they would slow each other down on a machine with few cores.
    wait = ("--jobs", "1", "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5")
    snakemake(folder, *targets, "--profile", "slurm", *wait, "--forcerun", "boxes", *groups)
    own = sum(pd.read_csv(file, sep="\t")["s"].sum() for file in (folder / "results/benchmarks/boxes").glob("*.tsv"))
    return allocations(folder), own


def main() -> None:
    """Print a Markdown table and what it means for the default experiment."""
    with TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay()))
        snakemake(folder, "--cores", "2", "--until", "convert")
        alone = measure(folder)
        together = measure(folder, "--groups", "boxes=several", "--group-components", f"several={JOBS}")
    beside = [(sum(held) - own) / JOBS for held, own in (alone, together)]
    print("| | allocations | seconds held, all | beside the work, per job |")
    print("| --- | --- | --- | --- |")
    for title, (held, _), extra in zip(("alone", f"in a group of {JOBS}"), (alone, together), beside, strict=True):
        print(f"| {JOBS} jobs {title} | {len(held)} | {sum(held):.0f} | {extra:.1f} |")
    saved = FAN_OUT * (beside[0] - beside[1])
    print(f"\n{FAN_OUT} jobs in groups of {JOBS}: {FAN_OUT // JOBS} allocations, {saved:.0f} s of allocations saved")


if __name__ == "__main__":
    main()
