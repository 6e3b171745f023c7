"""A real SLURM of one node with one pretended GPU, run by the caller from a folder of its own.

python tests/helpers/one_node.py COMMAND [ARGUMENT ...]     runs a command inside one, then stops it

It needs the programs of Debian's slurm-wlm and munge, no root, and touches no other SLURM or munge of the machine.
"""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
ME = pwd.getpwuid(os.getuid()).pw_name
GIB = 1024  # MiB

CONF = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
# says when the node is done with a job
SlurmdDebug=debug
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
# a request that no node can meet is refused, not pending for ever
EnforcePartLimits=ALL
# seconds from SIGTERM at the time limit to SIGKILL
KillWait=5
# finished jobs stay in squeue for the tests to read
MinJobAge=3600
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PriorityType=priority/basic
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
# seconds between looks at a job's memory; one that exceeds its request is killed
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
GresTypes=gpu
# more CPUs and memory are declared than the machine has, so that CPU jobs run beside a GPU job
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} CoresPerSocket={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES PriorityTier=1 State=UP
PartitionName=urgent Nodes={host} PriorityTier=2 State=UP
"""


def missing_programs() -> list[str]:
    """What of SLURM and munge is not installed."""
    return [program for program in PROGRAMS if shutil.which(program, path=PATH) is None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(what: str, reached: Callable[[], bool], seconds: float, pause: float = 0.25) -> None:
    """Look again and again, with pauses in seconds, until something is so."""
    end = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not so after {seconds} s")
        time.sleep(pause)


class OneNode:
    """The daemons, and how to speak with them; a context that starts and stops them."""

    def __init__(self, folder: Path, cpus: int = 8, memory: int = 64 * GIB) -> None:
        self.folder, self.host = folder, socket.gethostname().split(".")[0]
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = os.environ | {"PATH": f"{folder}/bin:{PATH}", "SLURM_CONF": f"{folder}/slurm.conf"}
        for name in ("state", "spool", "bin"):
            (folder / name).mkdir()
        # Snakemake takes SLURM_CONF from the environment of a job before it calls srun.
        srun = folder / "bin/srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun", path=PATH)} "$@"\n')
        srun.chmod(0o755)
        (folder / "slurm.conf").write_text(
            CONF.format(
                host=self.host,
                folder=folder,
                user=ME,
                controller_port=free_port(),
                node_port=free_port(),
                cpus=cpus,
                memory=memory,
            )
        )
        # Only a GPU that names a file counts.
        (folder / "gres.conf").write_text(f"NodeName={self.host} Name=gpu File=/dev/null\n")
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)

    def __enter__(self) -> "OneNode":
        try:
            files = [
                f"--{what}={self.folder}/munge.{what}"
                for what in ("socket", "key-file", "pid-file", "log-file", "seed-file")
            ]
            files[1] = f"--key-file={self.folder}/munge.key"
            self.start("munged", "--foreground", "--force", *files)
            wait_until("munge's socket is there", (self.folder / "munge.socket").exists, 10)
            self.start("slurmctld", "-D")
            self.start("slurmd", "-D", "-N", self.host)
            wait_until("the node is idle", lambda: self.ask("sinfo", "-h", "-o", "%T") == "idle", 30)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.run("scancel", "--user", ME)
        self.stop()

    def start(self, program: str, *arguments: str) -> None:
        """Start a daemon; what it says on the way is in `folder`."""
        path = shutil.which(program, path=PATH)
        assert path, program
        with (self.folder / f"{program}.out").open("ab") as said:
            self.daemons[program] = subprocess.Popen([path, *arguments], env=self.environment, stdout=said, stderr=said)

    def stop(self, *programs: str) -> None:
        """Stop some daemons, or all of them, the last started first."""
        for program in programs or reversed(list(self.daemons)):
            daemon = self.daemons.pop(program)
            daemon.terminate()
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:  # slurmd waits for jobs that do not end
                daemon.kill()
                daemon.wait()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside this SLURM."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)

    def ask(self, *command: str) -> str:
        """What a command prints."""
        done = self.run(*command)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout.strip()

    def done_with(self, number: int) -> bool:
        """Whether the node has once been done with a job, so that it would take it again."""
        return f"completed epilog for jobid {number}\n" in (self.folder / "slurmd.log").read_text()


if __name__ == "__main__":
    with TemporaryDirectory() as folder, OneNode(Path(folder)) as slurm:
        sys.exit(subprocess.run(sys.argv[1:], env=slurm.environment, check=False).returncode)
