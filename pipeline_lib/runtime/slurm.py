"""Check a run on SLURM before it starts, and find the jobs of a run that was killed.

Requests that SLURM would refuse later, or leave pending for ever, are refused before anything is submitted. Jobs that
outlive their run are found, so that no second run starts beside them.
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

CONTROLLER = ".snakemake/controller"  # our record of the last run: Snakemake's locks do not name their process

LONGEST_WAIT = 200  # seconds: slightly more than the longest time between two queries of the plugin

# Words of sbatch's errors, and the resource with the wrong value. All other errors are about amounts.
CAUSES = {
    "mem-per-cpu": "mem_mb_per_cpu",
    "partition name": "slurm_partition",
    "account": "slurm_account",
    "qos": "qos",
    "feature": "constraint",
}


class ClusterError(RuntimeError):
    """A run cannot start on SLURM. The message says what to edit or to call."""


@dataclass(frozen=True)
class Run:
    """A Snakemake process that submits jobs."""

    name: str  # of all its SLURM jobs
    machine: str
    process: int

    @classmethod
    def here(cls, name: str) -> "Run":
        """Return the run of this process."""
        return cls(name, socket.gethostname(), os.getpid())


@dataclass(frozen=True)
class Job:
    """A job in SLURM's queue."""

    number: str
    state: str
    rule: str


@dataclass(frozen=True)
class Request:
    """The resources that jobs of a rule request from SLURM."""

    sbatch: str  # shell command without a script
    rule: str
    snakefile: Path  # file that defines the rule
    resources: dict[str, object]


def last_run(folder: Path) -> Run | None:
    """Return the last run that was started in a folder, or None if there was none."""
    path = folder / CONTROLLER
    return Run(**json.loads(path.read_text())) if path.exists() else None


def record(folder: Path, run: Run) -> None:
    """Record a run before it submits anything."""
    with atomic(folder / CONTROLLER) as unfinished:
        unfinished.write_text(json.dumps(asdict(run)))


def alive(run: Run, folder: Path) -> bool:
    """Return whether the run's process exists and is a Snakemake in `folder`. Call this on the run's own machine."""
    process = Path(f"/proc/{run.process}")
    try:
        return (process / "cwd").samefile(folder) and b"snakemake" in (process / "cmdline").read_bytes()
    except OSError:  # no such process, or another user's
        return False


def squeue(*options: str) -> list[Job]:
    """Return the caller's jobs that have not ended, including completing ones.

    Raises:
        ClusterError: SLURM does not answer.
    """
    command = ["squeue", "--me", "--noheader", "--format=%i|%T|%k", *options]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError as error:
        raise ClusterError("squeue is not found: call this on a login node of the cluster") from error
    except subprocess.CalledProcessError as error:
        raise ClusterError(f"{' '.join(command)}: {error.stderr.strip()}") from error
    return [Job(*line.split("|", 2)) for line in output.splitlines()]


def live_jobs(run: Run) -> list[Job]:
    """Return the jobs of a run that have not ended."""
    return squeue(f"--name={run.name}")


def refuse_company(folder: Path) -> None:
    """Refuse to start while another run works in the folder, or jobs of an earlier run are left.

    Raises:
        ClusterError: there is such a run, or there are such jobs.
    """
    run = last_run(folder)
    if run is None:
        return
    if run.machine == socket.gethostname() and alive(run, folder):
        raise ClusterError(f"process {run.process} already runs the workflow in {folder.resolve()}: end it first")
    if orphans := live_jobs(run):
        names = ", ".join(f"{job.number} ({job.rule}, {job.state.lower()})" for job in orphans[:10])
        raise ClusterError(
            f"{len(orphans)} SLURM jobs of an earlier run, which was killed, are still there: {names}. They write the "
            "same files as the jobs of this run. Call `python slurm/recover.py` here, then repeat the command."
        )


def refuse_forgetful(age: int | None) -> None:
    """Refuse a cluster that forgets finished jobs before the plugin queries them.

    Args:
        age: SLURM's MinJobAge in seconds, None if SLURM does not report it.

    Raises:
        ClusterError: the age is unknown or too short.
    """
    if age is not None and age >= LONGEST_WAIT:
        return
    if age is None:
        problem = "`scontrol show config` does not report SLURM's MinJobAge"
        advice = "Is SLURM installed and running here, on a login node of the cluster?"
    else:
        problem = f"SLURM's MinJobAge is {age} s"
        advice = "Ask the cluster's administrators to raise it"
    raise ClusterError(
        f"{problem}: expected at least {LONGEST_WAIT} s. If SLURM forgets a job before Snakemake asks for its state, "
        f"Snakemake waits for it for ever. {advice}"
    )


def place(file: Path, key: str, rule: str = "") -> str:
    """Return the file and line of a key, for the rule if it has its own value, else for all rules.

    The line can be a comment that shows the key. Without such a line, return only the file.
    """
    lines = list(enumerate(file.read_text().splitlines(), 1))
    for pattern in (rf"\s*{re.escape(rule)}\s*:.*\b{re.escape(key)}\s*:", rf"[\s#]*{re.escape(key)}\s*:"):
        numbers = [number for number, line in lines if re.match(pattern, line)]
        if numbers:
            return f"{file}, line {numbers[0]}"
    return str(file)


def remedy(request: Request, complaint: str, profile: Path) -> str:
    """Return what to change so that SLURM accepts a request."""
    for words, key in CAUSES.items():
        if words in complaint.lower():
            return f"{key} is {request.resources.get(key, 'not set')}: edit {place(profile, key, request.rule)}"
    amounts = ", ".join(f"{key}={value}" for key, value in request.resources.items())
    rule = place(request.snakefile, f"rule {request.rule}")
    return f"the rule requests {amounts}: edit {rule}, or set it for this rule under set-resources in {profile}"


def _complaint(output: str) -> str:
    """Return all lines of sbatch's error: on many clusters the cause is not in the last one."""
    lines = [line.removeprefix("sbatch: ").removeprefix("error: ") for line in output.splitlines() if line.strip()]
    return "; ".join(line.removeprefix("allocation failure: ") for line in lines)


def refuse_absence() -> None:
    """Refuse to start without SLURM's commands.

    Raises:
        ClusterError: sbatch is not found.
    """
    if shutil.which("sbatch") is None:
        raise ClusterError(
            "SLURM is not installed here: the command sbatch is not found. Call this on a login node of the cluster, "
            "or leave out `--profile slurm`"
        )


def refuse_impossible(requests: list[Request], profile: Path) -> None:
    """Test each request with SLURM, without submitting it.

    Raises:
        ClusterError: SLURM would never run some requests; the message explains each.
    """
    rules_by_problem: dict[str, list[str]] = {}
    for request in requests:
        command = f"{request.sbatch} --test-only --wrap true"
        test = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
        if test.returncode:
            complaint = _complaint(test.stderr) or f"sbatch ended with {test.returncode}"
            problem = f"{complaint}; {remedy(request, complaint, profile)}"
            rules_by_problem.setdefault(problem, []).append(request.rule)
    if rules_by_problem:
        lines = [f"{', '.join(sorted(set(rules)))}: {problem}" for problem, rules in rules_by_problem.items()]
        raise ClusterError("\n  ".join(["SLURM would not run these rules.", *lines]))
