"""After a run on SLURM was killed: cancel the jobs it left behind, wait until they are gone, unlock the folder.

Call it in the folder and on the machine where the run was started, then repeat the run's command.
"""

import argparse
import socket
import subprocess
import sys
import time
from pathlib import Path

from pipeline_lib.runtime.slurm import ClusterError, Run, alive, last_run, live_jobs

ROOT = Path(__file__).resolve().parents[1]


def cancel(run: Run) -> None:
    """Cancel the jobs of a run and of no other, and wait until none writes any more.

    What sbatch was submitting when its controller was killed may come a moment later, so an empty queue is seen twice.
    """
    cancelled: set[str] = set()
    for _ in range(2):
        while jobs := live_jobs(run):
            new = [job for job in jobs if job.number not in cancelled]
            for job in new:
                print(f"cancelling job {job.number} ({job.rule}, {job.state.lower()})")
                # not checked: it fails for a job that has just ended
                subprocess.run(["scancel", job.number], check=False)
                cancelled.add(job.number)
            if not new:
                print(f"waiting for {len(jobs)} jobs to end")
            time.sleep(2)
        time.sleep(2)


def unlock() -> None:
    """Take away the lock that Snakemake left in this folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", Path.cwd()]
    subprocess.run([*command, "--configfile", ROOT / "config.yaml", "--quiet", "all", "--unlock"], check=True)


def recover(dead: bool) -> None:
    """Clear up after the last run in this folder.

    Raises:
        ClusterError: it may be alive, or SLURM does not answer.
    """
    run = last_run(Path())
    if run and not dead:
        if run.machine != socket.gethostname():
            raise ClusterError(
                f"the last run was process {run.process} on {run.machine}, which alone knows whether it lives. "
                "Call this there, or here with --dead if that machine is gone"
            )
        if alive(run, Path()):
            raise ClusterError(f"the run is alive: process {run.process}. End it first, by Ctrl-C or kill")
    if run:
        cancel(run)
    unlock()
    print("recovered: repeat the command")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dead", action="store_true", help="the run has ended, though it does not look so from here")
    try:
        recover(parser.parse_args().dead)
    except ClusterError as error:
        sys.exit(f"not recovered: {error}")
