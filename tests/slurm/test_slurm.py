"""The experiment on a real SLURM, undisturbed and disturbed: the figures are always those of a local run."""

import shutil
import time
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

import pytest
from helpers.on_slurm import EXPERIMENT, Experiment, Record, Training, figures, tables, trained
from helpers.one_node import OneNode
from helpers.running import ROOT, snakemake

from pipeline_lib.data.example_set import write_example_set

Fault = Callable[[Training, Experiment], None]


@pytest.fixture(scope="module")
def finished(slurm: OneNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Experiment]:
    """An undisturbed run on SLURM."""
    with Experiment(tmp_path_factory.mktemp("finished"), slurm) as experiment:
        experiment.run()
        yield experiment


@pytest.fixture
def embedded(slurm: OneNode, undisturbed: Path, tmp_path: Path) -> Iterator[Experiment]:
    """An experiment that has still to train its models."""
    for done in (".snakemake", *(f"results/{stage}" for stage in ("raw", "convert", "boxes", "weights", "embed"))):
        shutil.copytree(undisturbed / done, tmp_path / done)
    with Experiment(tmp_path, slurm) as experiment:
        yield experiment


def twins(jobs: list[Record]) -> list[tuple[Record, Record]]:
    """Jobs of the same outputs that ran at the same time."""
    return [(one, other) for one, other in combinations(jobs, 2) if one.name == other.name and one.beside(other)]


def test_the_figures_are_those_of_a_local_run(finished: Experiment, undisturbed: Path) -> None:
    assert figures(finished.folder) == figures(undisturbed)


def test_each_job_runs_once_and_one_at_a_time_on_the_gpu_with_cpu_jobs_beside(finished: Experiment) -> None:
    jobs = finished.jobs()
    rules = [job.rule for job in jobs]
    assert {rule: rules.count(rule) for rule in rules} == {
        "convert": 1,
        "boxes": 1,
        "embed": 1,
        "train": 3,
        "refine": 3,  # groups of a model's levels
        "score": 3,
        "audit": 1,
        "tables": 1,
        "analysis": 1,
        "report": 1,
    }
    assert {job.state for job in jobs} == {"COMPLETED"}
    on_gpu, on_cpu = [job for job in jobs if job.gpu], [job for job in jobs if not job.gpu]
    assert {job.rule for job in on_gpu} == {"embed", "train", "refine"}
    assert not [pair for pair in combinations(on_gpu, 2) if pair[0].beside(pair[1])]
    assert [pair for pair in ((one, other) for one in on_gpu for other in on_cpu) if pair[0].beside(pair[1])]


def test_a_level_redone_is_one_job_and_then_the_tables(finished: Experiment, undisturbed: Path) -> None:
    before = len(finished.jobs())
    finished.run("results/refine/cells/sam/0/40.parquet", "--force")
    assert [job.rule for job in finished.jobs()[before:]] == ["refine"]
    finished.run("results/tables.csv")  # the masks are the same, so their scores stay
    assert [job.rule for job in finished.jobs()[before:]] == ["refine", "tables"]
    assert figures(finished.folder) == figures(undisturbed)


def test_the_shards_of_a_set_are_jobs_of_their_own(finished: Experiment, undisturbed: Path) -> None:
    before, target = len(finished.jobs()), "results/collect/example/objects.csv"
    for folder in finished.folder, undisturbed:
        write_example_set(folder / "example")
    finished.run(target)
    rules = [job.rule for job in finished.jobs()[before:]]
    assert sorted(rules) == ["collect", "prompts", "segment", "segment"]
    local = snakemake(undisturbed, EXPERIMENT, "--cores", "1", target)
    assert local.returncode == 0, local.stderr[-2000:]
    assert (finished.folder / target).read_bytes() == (undisturbed / target).read_bytes()
    for folder in finished.folder, undisturbed:  # whose figures other tests compare
        shutil.rmtree(folder / "results/collect")


def cancel(training: Training, experiment: Experiment) -> None:
    training.freeze()
    experiment.slurm.ask("scancel", str(experiment.running("train").number))


def kill(training: Training, experiment: Experiment) -> None:
    training.freeze().kill()


def lose_the_node(training: Training, experiment: Experiment) -> None:
    training.freeze()
    number = experiment.running("train").number
    slurm = experiment.slurm
    slurm.ask("scontrol", "update", f"NodeName={slurm.host}", "State=DOWN", "Reason=test")
    experiment.requeued(number)


def reach_the_time_limit_twice(training: Training, experiment: Experiment) -> None:
    """The controller is away for half a minute of the first wait."""
    frozen = training.freeze()
    experiment.slurm.stop("slurmctld")
    time.sleep(30)
    experiment.slurm.start("slurmctld", "-D")
    frozen.wait(120)
    training.freeze().wait(120)


@pytest.mark.parametrize(
    ("model", "fault", "limit", "ends"),
    [
        ("sam", cancel, 30, ["CANCELLED"]),
        ("sam_p", kill, 30, ["FAILED"]),
        ("sam_p", lose_the_node, 30, []),
        ("proposed", reach_the_time_limit_twice, 2, ["FAILED", "FAILED"]),
    ],
)
def test_training_that_is_cut_goes_on_where_it_was(
    model: str, fault: Fault, limit: int, ends: list[str], embedded: Experiment, undisturbed: Path
) -> None:
    run = embedded.start(f"results/train/cells/{model}/0.csv", "--set-resources", f"train:runtime={limit}")
    training = Training(embedded, model)
    fault(training, embedded)
    embedded.finish(run)
    assert [job.state for job in embedded.jobs()] == [*ends, "COMPLETED"]
    assert trained(embedded.folder, model) == trained(undisturbed, model)
    assert training.repeated_epochs() <= 1


def test_preemption_and_too_little_memory_change_no_figure(embedded: Experiment, undisturbed: Path) -> None:
    run = embedded.start("results/tables.csv", "--set-resources", "tables:mem_mb=100*attempt**3")
    cut = embedded.running("refine")
    embedded.slurm.ask("sbatch", "--partition=urgent", "--gpus=1", "--output=/dev/null", "--wrap=true")
    embedded.requeued(cut.number)
    embedded.finish(run)
    jobs = embedded.jobs()
    assert [job.number for job in jobs if job.restarts] == [cut.number]
    assert [job.state for job in jobs if job.rule == "tables"] == ["FAILED", "COMPLETED"]
    assert tables(embedded.folder) == tables(undisturbed)


def test_a_killed_run_is_recovered_without_a_duplicate(embedded: Experiment, undisturbed: Path) -> None:
    run = embedded.start("results/tables.csv")
    first = embedded.running("train")
    assert "the run is alive" in embedded.recover().stderr
    other = embedded.slurm.ask("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 300")
    run.kill()
    run.wait()

    snakemake(embedded.folder, {}, "--unlock")
    assert "slurm/recover.py" in embedded.refused("results/tables.csv")
    assert {job.state for job in embedded.jobs() if job.number >= first.number} <= {"RUNNING", "PENDING", "COMPLETED"}

    recovered = embedded.recover()
    assert recovered.returncode == 0, recovered.stderr
    assert f"cancelling job {first.number} " in recovered.stdout
    assert not [job for job in embedded.jobs() if job.state in ("RUNNING", "PENDING", "COMPLETING")]
    assert embedded.slurm.ask("squeue", "--noheader", "--format=%i %T") == f"{other} RUNNING"
    embedded.slurm.ask("scancel", other)

    embedded.run("results/tables.csv")
    assert not twins(embedded.jobs())
    assert tables(embedded.folder) == tables(undisturbed)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (["--default-resources", "slurm_partition=nowhere"], "slurm_partition is nowhere: edit {profile}"),
        (
            ["--set-resources", "train:mem_mb=999999"],
            "train: Requested node configuration is not available; it asks for",
        ),
    ],
)
def test_what_slurm_cannot_give_is_refused_before_any_job(values: list[str], named: str, embedded: Experiment) -> None:
    profile = ROOT / "slurm/config.yaml"
    number = next(n for n, line in enumerate(profile.read_text().splitlines(), 1) if "slurm_partition:" in line)
    assert named.format(profile=f"{profile}, line {number}") in embedded.refused(*values)
    assert embedded.jobs() == []
