"""The workflow on SLURM, watched from outside."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import psutil

from helpers.one_node import ME, OneNode, wait_until
from helpers.running import ROOT, SMALL, workflow_arguments
from pipeline_lib.config.overlays import merged

SET = {
    "images": "example/images",  # in the folder of the run
    "boxes": "example/boxes.csv",
    "model": {"dataset": "cells", "model": "proposed", "seed": 0},
    "segment": {"on_bad_box": "skip", "shards": 2},
}
EXPERIMENT = merged(
    SMALL,
    {
        "experiment": {"datasets": ["cells"], "models": ["sam", "proposed"]},
        # A training that is cut has two epochs before the first cut, and one after each.
        "train": {"epochs": 6, "objects_per_tile": 4, "validation_levels": [40]},
        "predict": {"example": SET},
    },
)
TYPED = ("-m", "snakemake")  # as users type it
QUICK = ("-P", f"{Path(__file__).parent}/quick_snakemake.py")  # looks at its jobs more often
OF_SET = "results/collect/example/objects.csv"
# The shipped profile but for two waits: nodes and file system are this machine.
PROFILE = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5")


@dataclass(frozen=True)
class Record:
    """What SLURM tells of a job."""

    number: int
    name: str  # rule or group, and wildcards
    state: str
    start: datetime | None  # None: not yet
    end: datetime | None  # of a running job: its time limit
    gpu: bool
    restarts: int

    @classmethod
    def parse(cls, line: str) -> "Record":
        """A job of `scontrol --oneliner show jobs`."""
        fields = dict(re.findall(r"(\w+)=(\S*)", line))
        start, end = (instant(fields[key]) for key in ("StartTime", "EndTime"))
        name = fields["Comment"].removeprefix("rule_")
        gpu = "TresPerJob" in fields
        return cls(int(fields["JobId"]), name, fields["JobState"], start, end, gpu, int(fields["Restarts"]))

    @property
    def rule(self) -> str:
        return self.name.split("_")[0]

    def beside(self, other: "Record") -> bool:
        """Whether both ran at some instant."""
        if not (self.start and self.end and other.start and other.end):
            return False
        return self.start < other.end and other.start < self.end


def instant(written: str) -> datetime | None:
    """A time in SLURM's words."""
    return None if written == "Unknown" else datetime.fromisoformat(written)


class Experiment:
    """A folder in which the workflow runs on SLURM."""

    def __init__(self, folder: Path, slurm: OneNode) -> None:
        self.folder, self.slurm = folder, slurm
        self.said = folder / "snakemake.out"
        self.runs: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str, program: Sequence[str] = QUICK) -> subprocess.Popen[bytes]:
        call = [sys.executable, *program, *workflow_arguments(self.folder, EXPERIMENT, *PROFILE, *arguments)]
        with self.said.open("wb") as out:
            run = subprocess.Popen(call, cwd=ROOT, env=self.slurm.environment, stdout=out, stderr=out)
        self.runs.append(run)
        return run

    def __enter__(self) -> "Experiment":
        return self

    def __exit__(self, *_: object) -> None:
        """End the runs that a failed test has left, and what SLURM has left of jobs.

        Without cgroups it loses a process whose parent has ended: a Snakemake in a job whose script is gone.
        """
        for run in self.runs:
            run.kill()
            run.wait()
        self.slurm.run("scancel", "--user", ME)  # which fails where a test has left the controller stopped
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # it has ended meanwhile
                if any(str(self.folder) in argument for argument in process.cmdline()):
                    process.kill()

    def finish(self, run: subprocess.Popen[bytes]) -> None:
        assert run.wait(1800) == 0, self.said.read_text()[-8000:]

    def run(self, *arguments: str, program: Sequence[str] = QUICK) -> None:
        self.finish(self.start(*arguments, program=program))

    def refused(self, *arguments: str) -> str:
        """What a run says that fails."""
        assert self.start(*arguments, program=TYPED).wait(300) != 0
        return self.said.read_text()

    def recover(self) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, ROOT / "slurm/recover.py"]
        return subprocess.run(
            call, cwd=self.folder, env=self.slurm.environment, capture_output=True, text=True, check=False
        )

    def jobs(self) -> list[Record]:
        """Every job that was ever submitted from this folder, in order."""
        listed = self.slurm.ask("scontrol", "--oneliner", "show", "jobs").splitlines()
        own = [Record.parse(line) for line in listed if f"StdOut={self.folder}/" in line]
        return sorted(own, key=lambda job: job.number)

    def job(self, number: int) -> Record:
        return next(job for job in self.jobs() if job.number == number)

    def lose_the_controller(self) -> None:
        """Stop SLURM's controller until the run has asked for its jobs in vain."""
        self.slurm.stop("slurmctld")
        stopped, run = time.time(), psutil.Process(self.runs[-1].pid)
        asks: list[psutil.Process] = []

        def asked() -> bool:
            with suppress(psutil.NoSuchProcess):  # one of before has just ended
                squeues = [child for child in run.children() if child.name() == "squeue"]
                asks.extend(child for child in squeues if child.create_time() > stopped)
            return bool(asks)

        wait_until("the run asks for its jobs", asked, 120)
        asks[0].wait(120)
        self.slurm.start("slurmctld", "-D")

    def shorten(self, number: int) -> None:
        """Bring the time limit of a job near, as an administrator can; the profile's signal comes a minute before."""
        self.slurm.ask("scontrol", "update", f"JobId={number}", "EndTime=now+75")

    def requeued(self, number: int) -> None:
        """Wait until SLURM has put a job back into the queue, for the first time, and spare it its two minutes there.

        The wait is there for the node to be done with the job: SLURM drains a node that is to run a job twice at once.
        """
        wait_until(f"job {number} is in the queue again", lambda: self.job(number).state == "PENDING", 60)
        wait_until(f"the node is done with job {number}", lambda: self.slurm.done_with(number), 60)
        self.slurm.ask("scontrol", "update", f"JobId={number}", "StartTime=now")

    def running(self, rule: str) -> Record:
        """The job of a rule that runs, as soon as there is one."""
        seen: list[Record] = []

        def found() -> bool:
            assert self.runs[-1].poll() is None, self.said.read_text()[-8000:]
            seen.extend(job for job in self.jobs() if job.rule == rule and job.state == "RUNNING")
            return bool(seen)

        wait_until(f"a job of {rule} runs", found, 600)  # after those of other rules
        return seen[0]


class Training:
    """The process that trains a model on behalf of a job, one attempt after the other."""

    def __init__(self, experiment: Experiment, model: str) -> None:
        self.log = experiment.folder / f"results/logs/train/cells/{model}/0.log"
        self.frozen: psutil.Process | None = None
        self.attempts: list[list[int]] = []  # the epochs that each frozen one had finished

    def process(self) -> psutil.Process | None:
        """The one whose output is the log."""
        for process in psutil.process_iter():
            try:
                if os.readlink(f"/proc/{process.pid}/fd/1") == str(self.log) and "train" in process.cmdline()[-1]:
                    return process
            except (OSError, psutil.Error, IndexError):
                continue
        return None

    def finished(self) -> list[int]:
        """The epochs that the present attempt has finished."""
        return [int(epoch) for epoch in re.findall(r"epoch (\d+):", self.log.read_text())]

    def freeze(self) -> psutil.Process:
        """Stop the process once it has finished some epochs, as a hanging node would: a fault then strikes in the next.

        There are two at first, so that beginning anew would repeat two.

        SLURM's signals come with SIGCONT.
        """
        if self.frozen:
            self.frozen.wait(120)
        wait_until("training has begun", lambda: self.process() is not None, 300)
        process = self.process()
        assert process
        wait_until("epochs are finished", lambda: len(self.finished()) >= (1 if self.attempts else 2), 300, pause=0.02)
        process.suspend()
        self.frozen = process
        self.attempts.append(self.finished())
        return process

    def went_on(self) -> bool:
        """Whether each attempt repeated at most the last epoch of the one before, after the last attempt."""
        return all(later[0] >= earlier[-1] for earlier, later in pairwise([*self.attempts, self.finished()]))


def figures(folder: Path) -> dict[str, bytes]:
    """The figures of an experiment: boxes, loss curves, scores, tables; not the claims, of which one is about time."""
    files = sorted(file for file in (folder / "results").rglob("*.csv") if file.name != "claims.csv")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def training_of(folder: Path, model: str) -> list[bytes]:
    """The weights and the loss curve of a model."""
    return [(folder / f"results/train/cells/{model}/0.{kind}").read_bytes() for kind in ("safetensors", "csv")]
