"""A training that is killed or asked to stop goes on where it was, and ends with the same bytes."""

import logging
import resource
import shutil
import signal
import time
from copy import deepcopy

import pytest
import torch
from helpers.stages import SERVER
from helpers.training import arguments, call, fit_scripted, new_run

LONG = {"epochs": 4}


def started(stages, folder):
    """A process that runs the stage and prints its log to its standard error."""
    return SERVER.start("helpers.training:train_with_log", arguments(stages, folder, **LONG))


@pytest.fixture(scope="module")
def killed(stages, tmp_path_factory):
    """The checkpoint of a run that was killed after its first epoch of training."""
    folder = tmp_path_factory.mktemp("killed")
    process = started(stages, folder)
    checkpoint = folder / "model.safetensors.checkpoint"
    while not checkpoint.exists() or len(torch.load(checkpoint, weights_only=True)["curve"]) < 2:
        assert process.is_running()
        time.sleep(0.01)
    process.kill()
    assert process.finish().returncode == -signal.SIGKILL
    assert not (folder / "model.safetensors").exists()
    return checkpoint


@pytest.mark.parametrize("name", ["proposed", "adapted"])
def test_weights_after_an_interruption_are_bitwise_those_without(micro, tmp_path, source, table, name):
    whole = new_run(deepcopy(micro), name, tmp_path / "whole")
    broken, resumed = (new_run(deepcopy(micro), name, tmp_path / "broken") for _ in range(2))
    fit_scripted(whole, source, table, [0.1, 0.2, 0.3])
    with pytest.raises(StopIteration):  # for want of a value at epoch 2
        fit_scripted(broken, source, table, [0.1, 0.2])
    fit_scripted(resumed, source, table, [0.3])
    assert resumed.curve[1:] == whole.curve[1:]
    assert all(torch.equal(new, resumed.model.state_dict()[key]) for key, new in whole.model.state_dict().items())


def steps_of(run, signal_after=None):
    """A list that grows with the run's steps, after one of which the run is asked to stop, as by a signal."""
    steps = []

    def note(*_):
        steps.append(len(run.curve))
        if len(steps) == signal_after:
            run.stop.signal = signal.SIGUSR1

    run.optimizer.register_step_post_hook(note)
    return steps


@pytest.mark.parametrize("signalled", [1, 2, 3, 4])  # there are two steps an epoch
def test_a_run_that_is_asked_to_stop_goes_on_from_its_very_step(micro, tmp_path, source, table, signalled):
    whole = new_run(deepcopy(micro), "proposed", tmp_path / "whole")
    stopped, resumed = (new_run(deepcopy(micro), "proposed", tmp_path / "stopped") for _ in range(2))
    before, after = steps_of(stopped, signalled), steps_of(resumed)
    fit_scripted(whole, source, table, [0.1, 0.2, 0.3])
    with pytest.raises(SystemExit) as exit:
        fit_scripted(stopped, source, table, [0.1, 0.2, 0.3])
    fit_scripted(resumed, source, table, [0.1, 0.2, 0.3][len(stopped.curve) :])
    assert exit.value.code == 128 + signal.SIGUSR1
    assert before + after == [1, 1, 2, 2]
    assert resumed.curve[1:] == whole.curve[1:]
    assert all(torch.equal(new, resumed.model.state_dict()[key]) for key, new in whole.model.state_dict().items())


def test_checkpoints_are_written_at_an_interval_too(run, source, table, monkeypatch):
    monkeypatch.setattr("pipeline_lib.training.trainer.CHECKPOINT_SECONDS", 0)
    run.optimizer.register_step_pre_hook(lambda *_: 1 / 0 if run.losses else None)  # at the second step
    with pytest.raises(ZeroDivisionError):
        fit_scripted(run, source, table, [0.1, 0.2, 0.3])
    state = torch.load(run.checkpoint, weights_only=True)
    assert (len(state["curve"]), len(state["losses"])) == (1, 1)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_process_that_is_asked_to_stop_says_so_and_keeps_its_checkpoint(stages, tmp_path, name):
    process = started(stages, tmp_path)
    while not (tmp_path / "model.safetensors.checkpoint").exists():
        assert process.is_running()
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    ended = process.finish()
    assert ended.returncode == 128 + getattr(signal, name)
    assert f"asked to stop by {name}" in ended.stderr
    assert "stopped in epoch" in ended.stderr
    assert not (tmp_path / "model.safetensors").exists()


def test_a_run_that_was_killed_and_restarted_writes_what_an_uninterrupted_one_does(stages, killed, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    whole, restarted = tmp_path / "whole", tmp_path / "restarted"
    for folder in (whole, restarted):
        folder.mkdir()
    shutil.copy(killed, restarted)
    for folder in (whole, restarted):
        call(stages, folder, **LONG)
        assert {path.name for path in folder.iterdir()} == {"model.safetensors", "curve"}
    assert "resumed after epoch" in caplog.text
    assert (restarted / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (restarted / "curve").read_bytes() == (whole / "curve").read_bytes()


@pytest.mark.parametrize("change", [{"seed": 1}, {"validation_levels": [0]}, {"code": "1"}, {"weight_decay": 0.02}])
def test_a_checkpoint_of_another_run_is_ignored(stages, killed, tmp_path, caplog, change):
    shutil.copy(killed, tmp_path)
    curve = call(stages, tmp_path, epochs=0, **change)
    assert "is of other settings, data or code and is ignored" in caplog.text
    assert len(curve) == 1


def test_a_checkpoint_that_cannot_be_read_is_ignored(stages, tmp_path, caplog):
    (tmp_path / "model.safetensors.checkpoint").write_bytes(b"PK, and then nothing")
    curve = call(stages, tmp_path, epochs=0)
    assert "cannot be read and is ignored" in caplog.text
    assert len(curve) == 1


NO_CHECKPOINTS = [b"", b"\x80\x04.", {"key": "x"}, [], {"key": KeyError}, torch.zeros(2)]


@pytest.mark.parametrize("content", NO_CHECKPOINTS, ids=range(len(NO_CHECKPOINTS)))
def test_a_checkpoint_of_anything_else_is_ignored(run, content):
    run.checkpoint.write_bytes(content) if isinstance(content, bytes) else torch.save(content, run.checkpoint)
    run.key = "x"
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    run.resume()
    assert run.curve == []
    assert all(torch.equal(before[name], value) for name, value in run.model.state_dict().items())


def test_a_checkpoint_that_does_not_fit_on_the_disk_is_named(run):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the next write beyond fails as on a full disk
    try:
        with pytest.raises(OSError, match=f"while this was written: '{run.checkpoint}'"):
            run.save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(run.checkpoint.parent.glob("*.partial"))
