"""A run on SLURM before it starts and after it was killed.

What SLURM would refuse late, or leave pending for ever, is refused before anything is submitted; jobs that outlive
their run are found, so that no second run starts beside them.
"""

import json
import os
import re
import shutil
import socket
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline_lib.runtime.atomic import atomic

CONTROLLER = ".snakemake/controller"  # beside Snakemake's own locks, which do not tell whose they are

LONGEST_WAIT = 200  # seconds: a little more than the plugin's longest between two looks at the queue

# What of sbatch's complaint names the resource with the wrong value. All other complaints are about amounts.
CAUSES = {
    "mem-per-cpu": "mem_mb_per_cpu",
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


def last_run(folder: Path) -> Run | None:
    """The run that was started last in a folder; None before the first."""
    path = folder / CONTROLLER
    return Run(**json.loads(path.read_text())) if path.exists() else None


def record(folder: Path, run: Run) -> None:
    """Write down a run before it submits anything."""
    with atomic(folder / CONTROLLER) as unfinished:
        unfinished.write_text(json.dumps(asdict(run)))


def alive(run: Run, folder: Path) -> bool:
    """Whether the run's process is there, and is a Snakemake in `folder`; only the run's own machine can tell."""
    process = Path(f"/proc/{run.process}")
    try:
        return (process / "cwd").samefile(folder) and b"snakemake" in (process / "cmdline").read_bytes()
    except OSError:  # no such process, or another user's
        return False


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


def refuse_company(folder: Path) -> None:
    """Do not start beside another run in the folder, nor beside the jobs that one left behind.

    Raises:
        ClusterError: there is such a run, or there are such jobs.
    """
    run = last_run(folder)
    if run is None:
        return
    if run.machine == socket.gethostname() and alive(run, folder):
        raise ClusterError(f"process {run.process} runs the workflow in {folder.resolve()}: end it first")
    if orphans := live_jobs(run):
        names = ", ".join(f"{job.number} ({job.rule}, {job.state.lower()})" for job in orphans[:10])
        raise ClusterError(
            f"{len(orphans)} SLURM jobs of an earlier run, which was killed, are still there: {names}. They write the "
            "same files as this run's jobs would. Call `python slurm/recover.py` here, then repeat the command."
        )


def refuse_forgetful(age: int | None) -> None:
    """A cluster must remember finished jobs from one look at the queue to the next: `age` is its MinJobAge in seconds.

    Raises:
        ClusterError: it does not, or does not tell.
    """
    if age is None or age < LONGEST_WAIT:
        found = "is not told by `scontrol show config`" if age is None else f"is {age} s"
        running = "Is SLURM installed and running here, on a login node of the cluster?"
        ask = running if age is None else "Ask the cluster's administrators to raise it"
        raise ClusterError(
            f"SLURM's MinJobAge {found}: at least {LONGEST_WAIT} s are expected, as a job that ends and is forgotten "
            f"between two looks at the queue is waited for without end. {ask}"
        )


def place(file: Path, key: str, rule: str = "") -> str:
    """Where a key stands, for a rule or else for all, if only in a comment: its file and line."""
    lines = list(enumerate(file.read_text().splitlines(), 1))
    for pattern in (rf"\s*{re.escape(rule)}\s*:.*\b{re.escape(key)}\s*:", rf"[\s#]*{re.escape(key)}\s*:"):
        found = [number for number, line in lines if re.match(pattern, line)]
        if found:
            return f"{file}, line {found[0]}"
    return str(file)


def remedy(request: Request, complaint: str, profile: Path) -> str:
    """What to change about a request that SLURM complains of."""
    for words, key in CAUSES.items():
        if words in complaint.lower():
            return f"{key} is {request.resources.get(key, 'not set')}: edit {place(profile, key, request.rule)}"
    amounts = ", ".join(f"{key}={value}" for key, value in request.resources.items())
    rule = place(request.snakefile, f"rule {request.rule}")
    return f"it asks for {amounts}: edit {rule}, or set it for this rule under set-resources in {profile}"


def _complaint(said: str) -> str:
    """Return all that sbatch said, as the cause stands before the last line on many clusters."""
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in said.splitlines() if line.strip()]
    return "; ".join(line.removeprefix("allocation failure: ") for line in lines)


def refuse_absence() -> None:
    """Do not start where SLURM's commands are not found.

    Raises:
        ClusterError: sbatch is not there.
    """
    if shutil.which("sbatch") is None:
        raise ClusterError(
            "SLURM is not installed here: the command sbatch is not found. Call this on a login node of the cluster, "
            "or leave out `--profile slurm`"
        )


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
            complaint = _complaint(tried.stderr) or f"sbatch ended with {tried.returncode}"
            refused.setdefault(f"{complaint}; {remedy(request, complaint, profile)}", []).append(request.rule)
    if refused:
        lines = [f"{', '.join(sorted(set(rules)))}: {what}" for what, rules in refused.items()]
        raise ClusterError("\n  ".join(["SLURM would not run these rules.", *lines]))
