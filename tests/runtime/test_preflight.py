"""What keeps a run from starting on SLURM, as far as no SLURM is needed to tell; tests/slurm has the rest."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.running import ROOT

from pipeline_lib.runtime.slurm import (
    ClusterError,
    Request,
    Run,
    alive,
    last_run,
    place,
    record,
    refuse_absence,
    refuse_company,
    refuse_forgetful,
    refuse_impossible,
    remedy,
)

PROFILE = """\
default-resources:
  # slurm_partition: gpu
  qos: long
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(PROFILE)
    return path


def recover(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "slurm/recover.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def request_of(snakefile: Path, **resources: object) -> Request:
    return Request("sbatch", "train", snakefile, resources)


@pytest.fixture
def snakemake_process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like that of a run in a folder."""
    command = [sys.executable, "-c", "print(flush=True); input()", "snakemake"]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def test_a_live_run_is_left_alone(tmp_path: Path, snakemake_process: subprocess.Popen[bytes]) -> None:
    record(tmp_path, Run("run", socket.gethostname(), snakemake_process.pid))
    with pytest.raises(ClusterError, match=f"process {snakemake_process.pid} "):
        refuse_company(tmp_path)
    recovery = recover(tmp_path)
    assert recovery.returncode == 1
    assert "the run is alive" in recovery.stderr


def test_the_last_run_is_remembered(tmp_path: Path) -> None:
    assert last_run(tmp_path) is None
    for name in ("first", "second"):
        record(tmp_path, Run.here(name))
    assert last_run(tmp_path) == Run.here("second")


def test_a_process_that_is_not_the_folders_run_does_not_count_as_one(
    tmp_path: Path, snakemake_process: subprocess.Popen[bytes]
) -> None:
    assert not alive(Run.here("run"), tmp_path)
    assert not alive(Run("run", socket.gethostname(), snakemake_process.pid), tmp_path.parent)


def test_a_key_is_placed_by_file_and_line(profile: Path) -> None:
    assert place(profile, "qos") == f"{profile}, line 3"
    assert place(profile, "slurm_partition") == f"{profile}, line 2"
    assert place(profile, "constraint") == str(profile)


def test_a_rules_own_line_comes_first(profile: Path) -> None:
    lines = profile.read_text().splitlines()
    profile.write_text("\n".join([*lines, "set-resources:", "  convert: {threads: 2, slurm_partition: nowhere}"]))
    assert place(profile, "slurm_partition", "convert") == f"{profile}, line {len(lines) + 2}"
    assert place(profile, "slurm_partition", "train") == f"{profile}, line 2"


@pytest.mark.parametrize(("age", "named"), [(None, "does not report SLURM's MinJobAge"), (60, "MinJobAge is 60 s")])
def test_a_cluster_that_forgets_finished_jobs_too_soon_is_refused(age: int | None, named: str) -> None:
    refuse_forgetful(300)
    with pytest.raises(ClusterError, match=f"{named}: expected at least 200 s"):
        refuse_forgetful(age)


@pytest.mark.parametrize(
    ("complaint", "named"),
    [
        ("Invalid partition name specified", "slurm_partition is nowhere: edit {profile}, line 2"),
        ("Invalid qos specification", "qos is long: edit {profile}, line 3"),
        ("Invalid account or account/partition combination specified", "slurm_account is not set: edit {profile}"),
        ("Requested node configuration is not available", "mem_mb=9: edit {rules}, line 1"),
        ("You must specify an account!; Batch job submission failed", "slurm_account is not set: edit {profile}"),
        ("You must specify --mem-per-cpu, --mem is not allowed here", "mem_mb_per_cpu is not set: edit {profile}"),
    ],
)
def test_what_slurm_refuses_is_traced_to_where_it_was_written(complaint: str, named: str, profile: Path) -> None:
    rules = profile.with_name("train.smk")
    rules.write_text("rule train:\n")
    request = request_of(rules, slurm_partition="nowhere", qos="long", mem_mb=9)
    assert named.format(profile=profile, rules=rules) in remedy(request, complaint, profile)


def test_all_that_sbatch_says_is_passed_on(tmp_path: Path, profile: Path) -> None:
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(
        "#!/bin/sh\necho 'sbatch: error: You must specify an account!' >&2\n"
        "echo 'sbatch: error: Batch job submission failed: Unspecified error' >&2\nexit 1\n"
    )
    sbatch.chmod(0o755)
    request = Request(str(sbatch), "train", profile, {})
    with pytest.raises(
        ClusterError, match=r"train: You must specify an account!; Batch job .* slurm_account is not set"
    ):
        refuse_impossible([request], profile)


def test_where_slurm_is_not_installed_this_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="SLURM is not installed here"):
        refuse_absence()


def test_recovery_of_another_machines_run_wants_to_be_told_that_it_is_dead(tmp_path: Path) -> None:
    record(tmp_path, Run("run", "elsewhere", 1))
    recovery = recover(tmp_path)
    assert recovery.returncode == 1
    assert "process 1 on elsewhere" in recovery.stderr
    assert "--dead" in recovery.stderr
