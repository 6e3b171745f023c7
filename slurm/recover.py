"""Clean up after a killed run on SLURM: cancel the jobs that it left, wait until they have ended, unlock the folder.

Call this in the folder and on the machine in which the run was started. Then repeat the command of the run.
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
    """Cancel the jobs of a run, and wait until none of them writes any more.

    A job that was being submitted when the run was killed can appear a moment later. So the queue is checked twice.
    """
    cancelled: set[str] = set()
    for _ in range(2):
        while jobs := live_jobs(run):
            new = [job for job in jobs if job.number not in cancelled]
            for job in new:
                print(f"cancelling job {job.number} ({job.rule}, {job.state.lower()})")
                # Not checked, because it fails for a job that has just ended.
                subprocess.run(["scancel", job.number], check=False)
                cancelled.add(job.number)
            if not new:
                print(f"waiting for {len(jobs)} jobs to end")
            time.sleep(2)
        time.sleep(2)


def unlock() -> None:
    """Remove the lock that Snakemake left in this folder."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory", Path.cwd()]
    subprocess.run([*command, "--configfile", ROOT / "config.yaml", "--quiet", "all", "--unlock"], check=True)


def recover(dead: bool) -> None:
    """Clean up after the last run in this folder.

    Args:
        dead: whether the user says that the run has ended, if this cannot be seen from this machine.

    Raises:
        ClusterError: the run may be alive, or SLURM does not answer.
    """
    run = last_run(Path())
    if run and not dead:
        if run.machine != socket.gethostname():
            raise ClusterError(
                f"the last run was process {run.process} on {run.machine}, and only that machine can tell whether it "
                "is alive. Call this there, or here with --dead if that machine is gone"
            )
        if alive(run, Path()):
            raise ClusterError(f"the run is alive: process {run.process}. End it first, by Ctrl-C or kill")
    if run:
        cancel(run)
    unlock()
    print("recovered: repeat the command")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dead", action="store_true", help="the run has ended, although this machine cannot tell")
    try:
        recover(parser.parse_args().dead)
    except ClusterError as error:
        sys.exit(f"not recovered: {error}")
