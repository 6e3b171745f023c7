"""The experiment on a real SLURM, undisturbed and disturbed: the figures are always those of a local run."""

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import combinations
from pathlib import Path

import pytest
from helpers.on_slurm import OF_SET, TYPED, Experiment, Record, Training, figures, training_of
from helpers.one_node import OneNode
from helpers.running import ROOT, snakemake

from pipeline_lib.data.example_set import write_example_set

UP_TO_EMBEDDINGS = ("raw", "convert", "boxes", "weights", "embed")
Fault = Callable[[Training, Experiment], None]


@pytest.fixture(scope="module")
def finished(slurm: OneNode, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Experiment]:
    """An undisturbed run on SLURM."""
    with Experiment(tmp_path_factory.mktemp("finished"), slurm) as experiment:
        write_example_set(experiment.folder / "example")
        experiment.run("all", OF_SET)
        yield experiment


@pytest.fixture
def embedded(slurm: OneNode, undisturbed: Path, tmp_path: Path) -> Iterator[Experiment]:
    """An experiment that has still to train its models."""
    with Experiment(started(undisturbed, tmp_path), slurm) as experiment:
        yield experiment


@pytest.fixture
def trained(slurm: OneNode, undisturbed: Path, tmp_path: Path) -> Iterator[Experiment]:
    """An experiment that has still to refine its masks."""
    with Experiment(started(undisturbed, tmp_path, "train"), slurm) as experiment:
        yield experiment


def started(undisturbed: Path, folder: Path, *stages: str) -> Path:
    """Copy what a run has made up to its embeddings, and by further stages, into a folder, which comes back."""
    for done in (".snakemake", *(f"results/{stage}" for stage in (*UP_TO_EMBEDDINGS, *stages))):
        shutil.copytree(undisturbed / done, folder / done)
    return folder


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
        "train": 2,
        "refine": 2,  # groups of a model's levels
        "score": 2,
        "audit": 1,
        "tables": 1,
        "analysis": 1,
        "report": 1,
        "prompts": 1,
        "segment": 2,  # shards of a set
        "collect": 1,
    }
    assert {job.state for job in jobs} == {"COMPLETED"}
    on_gpu, on_cpu = [job for job in jobs if job.gpu], [job for job in jobs if not job.gpu]
    assert {job.rule for job in on_gpu} == {"embed", "train", "refine", "segment"}
    assert not [pair for pair in combinations(on_gpu, 2) if pair[0].beside(pair[1])]
    assert [pair for pair in ((one, other) for one in on_gpu for other in on_cpu) if pair[0].beside(pair[1])]


def test_a_level_redone_is_one_job_and_then_the_tables(finished: Experiment, undisturbed: Path) -> None:
    before = len(finished.jobs())
    finished.run("results/refine/cells/sam/0/40.parquet", "--force", program=TYPED)
    assert [job.rule for job in finished.jobs()[before:]] == ["refine"]
    finished.run("results/tables.csv")  # the masks are the same, so their scores stay
    assert [job.rule for job in finished.jobs()[before:]] == ["refine", "tables"]
    assert figures(finished.folder) == figures(undisturbed)


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


def reach_the_time_limit(training: Training, experiment: Experiment) -> None:
    training.freeze()
    experiment.shorten(experiment.running("train").number)


def lose_the_controller(training: Training, experiment: Experiment) -> None:
    """For a while; then the time limit is reached."""
    training.freeze()
    experiment.lose_the_controller()
    experiment.shorten(experiment.running("train").number)


@pytest.mark.parametrize(
    ("model", "faults", "ends"),
    [
        ("sam", [cancel, kill, lose_the_node], ["CANCELLED", "FAILED"]),  # what the lost node had goes on as it is
        ("proposed", [lose_the_controller, reach_the_time_limit], ["FAILED", "FAILED"]),
    ],
)
def test_training_that_is_cut_goes_on_where_it_was(
    model: str, faults: list[Fault], ends: list[str], embedded: Experiment, undisturbed: Path
) -> None:
    run = embedded.start(f"results/train/cells/{model}/0.csv", "--set-resources", "train:runtime=30")
    first = embedded.running("train")
    assert first.start
    assert first.end == first.start + timedelta(minutes=30)
    training = Training(embedded, model)
    for fault in faults:
        fault(training, embedded)
    embedded.finish(run)
    assert [job.state for job in embedded.jobs()] == [*ends, "COMPLETED"]
    assert training_of(embedded.folder, model) == training_of(undisturbed, model)
    assert training.went_on()


def test_preemption_and_too_little_memory_change_no_figure(trained: Experiment, undisturbed: Path) -> None:
    scores = "results/score/cells/sam/0/40.csv"
    run = trained.start(scores, "--set-resources", "score:mem_mb=100*attempt**3")
    cut = trained.running("refine")
    trained.slurm.ask("sbatch", "--partition=urgent", "--gpus=1", "--output=/dev/null", "--wrap=true")
    trained.requeued(cut.number)
    trained.finish(run)
    jobs = trained.jobs()
    assert [job.number for job in jobs if job.restarts] == [cut.number]
    assert [job.state for job in jobs if job.rule == "score"] == ["FAILED", "COMPLETED"]
    assert (trained.folder / scores).read_bytes() == (undisturbed / scores).read_bytes()


def test_a_killed_run_is_recovered_without_a_duplicate(embedded: Experiment, undisturbed: Path) -> None:
    models = "sam", "proposed"
    targets = [f"results/train/cells/{model}/0.csv" for model in models]
    run = embedded.start(*targets)
    first = embedded.running("train")  # while the other waits for the GPU
    assert "the run is alive" in embedded.recover().stderr
    other = embedded.slurm.ask("sbatch", "--parsable", "--output=/dev/null", "--wrap=sleep 300")
    run.kill()
    run.wait()

    snakemake(embedded.folder, {}, "--unlock")
    assert "slurm/recover.py" in embedded.refused(*targets)
    assert {job.state for job in embedded.jobs() if job.number >= first.number} <= {"RUNNING", "PENDING", "COMPLETED"}

    recovered = embedded.recover()
    assert recovered.returncode == 0, recovered.stderr
    assert f"cancelling job {first.number} " in recovered.stdout
    assert not [job for job in embedded.jobs() if job.state in ("RUNNING", "PENDING", "COMPLETING")]
    assert embedded.slurm.ask("squeue", "--noheader", "--format=%i %T") == f"{other} RUNNING"
    embedded.slurm.ask("scancel", other)

    embedded.run(*targets)
    assert not twins(embedded.jobs())
    for model in models:
        assert training_of(embedded.folder, model) == training_of(undisturbed, model)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (["--default-resources", "slurm_partition=nowhere"], "slurm_partition is nowhere: edit {profile}"),
        (
            ["--set-resources", "train:mem_mb=999999"],
            "train: Requested node configuration is not available; the rule requests",
        ),
    ],
)
def test_what_slurm_cannot_give_is_refused_before_any_job(values: list[str], named: str, embedded: Experiment) -> None:
    profile = ROOT / "slurm/config.yaml"
    number = next(n for n, line in enumerate(profile.read_text().splitlines(), 1) if "slurm_partition:" in line)
    assert named.format(profile=f"{profile}, line {number}") in embedded.refused(*values)
    assert embedded.jobs() == []
