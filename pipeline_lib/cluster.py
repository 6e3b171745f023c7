"""A run on SLURM before it starts and after it was killed.

What SLURM would refuse late, or leave pending for ever, is refused before anything is submitted; jobs that outlive
their run are found, so that no second run starts beside them.
"""

import fcntl
import json
import os
import re
import socket
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

CONTROLLER = ".snakemake/controller"  # beside Snakemake's own locks, which do not tell whether their owner lives

# What of sbatch's complaint names the resource with the wrong value. All other complaints are about amounts.
CAUSES = {
    "partition name": "slurm_partition",
    "account": "slurm_account",
    "qos": "qos",
    "feature": "constraint",
}


class ClusterError(RuntimeError):
    """Something that keeps a run from starting on SLURM; the message says what to edit or to call."""


@dataclass(frozen=True)
class Run:
    """A Snakemake process that submits jobs."""

    name: str  # of all its SLURM jobs
    machine: str
    process: int

    @classmethod
    def here(cls, name: str) -> "Run":
        """The run of this process."""
        return cls(name, socket.gethostname(), os.getpid())


@dataclass(frozen=True)
class Job:
    """A job in SLURM's queue."""

    number: str
    state: str
    rule: str


@dataclass(frozen=True)
class Request:
    """What some jobs of a rule ask of SLURM."""

    sbatch: str  # the command, as the shell reads it, without a script
    rule: str
    snakefile: Path  # where the rule is written
    resources: dict[str, object]


def claim(folder: Path) -> IO[str]:
    """Make this process the one that runs the workflow in `folder`, as long as it lives and keeps the file open.

    The lock is the kernel's, so it goes with the process however that dies.

    Raises:
        ClusterError: another process has it.
    """
    path = folder / CONTROLLER
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        run = last_run(file)
        file.close()
        owner = f"process {run.process} on {run.machine}" if run else "a process that is just starting"
        raise ClusterError(f"{folder.resolve()} has a live run, {owner}: end it first") from error
    return file


def last_run(controller: IO[str]) -> Run | None:
    """The run that was last recorded in the file of `claim`."""
    controller.seek(0)
    text = controller.read()
    return Run(**json.loads(text)) if text else None


def record(controller: IO[str], run: Run) -> None:
    """Write down a run before it submits anything."""
    controller.truncate(0)
    json.dump(asdict(run), controller)
    controller.flush()


def squeue(*options: str) -> list[Job]:
    """The caller's jobs that are not gone yet, those completing included.

    Raises:
        ClusterError: SLURM does not answer.
    """
    command = ["squeue", "--me", "--noheader", "--format=%i|%T|%k", *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise ClusterError("squeue is not found: call this on a login node of the cluster") from error
    except subprocess.CalledProcessError as error:
        raise ClusterError(f"{' '.join(command)}: {error.stderr.strip()}") from error
    return [Job(*line.split("|", 2)) for line in done.stdout.splitlines()]


def live_jobs(run: Run) -> list[Job]:
    """The jobs of a run that are not gone yet."""
    return squeue(f"--name={run.name}")


def refuse_orphans(run: Run) -> None:
    """Do not start beside the jobs of an earlier run.

    Raises:
        ClusterError: there are such jobs.
    """
    if orphans := live_jobs(run):
        names = ", ".join(f"{job.number} ({job.rule}, {job.state.lower()})" for job in orphans[:10])
        raise ClusterError(
            f"{len(orphans)} SLURM jobs of an earlier run, which was killed, are still there: {names}. They write the "
            "same files as this run's jobs would. Call `python slurm/recover.py` here, then repeat the command."
        )


def place(file: Path, key: str) -> str:
    """Where a key stands, if only in a comment: its file and line."""
    lines = enumerate(file.read_text().splitlines(), 1)
    found = [number for number, line in lines if re.match(rf"[\s#]*{re.escape(key)}\s*:", line)]
    return f"{file}, line {found[0]}" if found else str(file)


def remedy(request: Request, complaint: str, profile: Path) -> str:
    """What to change about a request that SLURM complains of."""
    for words, key in CAUSES.items():
        if words in complaint.lower():
            return f"{key} is {request.resources.get(key, 'not set')}: edit {place(profile, key)}"
    amounts = ", ".join(f"{key}={value}" for key, value in request.resources.items())
    rule = place(request.snakefile, f"rule {request.rule}")
    return f"it asks for {amounts}: edit {rule}, or set it for this rule under set-resources in {profile}"


def refuse_impossible(requests: list[Request], profile: Path) -> None:
    """Let SLURM judge each request without submitting it.

    Raises:
        ClusterError: some can never be met; each is explained.
    """
    refused: dict[str, list[str]] = {}  # what SLURM says and what to do: the rules it is about
    for request in requests:
        command = f"{request.sbatch} --test-only --wrap true"
        tried = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        if tried.returncode:
            complaint = tried.stderr.strip().splitlines()[-1].removeprefix("allocation failure: ")
            refused.setdefault(f"{complaint}; {remedy(request, complaint, profile)}", []).append(request.rule)
    if refused:
        lines = [f"{', '.join(sorted(set(rules)))}: {what}" for what, rules in refused.items()]
        raise ClusterError("\n  ".join(["SLURM would not run these rules.", *lines]))
