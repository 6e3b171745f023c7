"""Training on two generated tiles under a `micro` with random weights."""

import json
import logging
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.stages import run_stage
from safetensors.torch import load_file

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import by_tile, evenly_spaced, grown, read_boxes
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.errors import StaleEmbeddingsError, TrainingError, WeightsError
from pipeline_lib.inference.next_box import next_box
from pipeline_lib.inference.predictor import Predictor, forward
from pipeline_lib.model.box_model import box_model, load_model
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.mask_decoder import OUTSIDE
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.training import TrainingConfig
from pipeline_lib.stages.train import train
from pipeline_lib.training.sampling import Draw, LabelledTiles, TrainingSet, draw_batch, draw_boxes, draw_epoch
from pipeline_lib.training.trainer import Trainer, fit, learning_rate, step_loss, train_epoch
from pipeline_lib.training.validation import Validation

MIX = {"levels": [0, 10, 20], "shares": [0.6, 0.2, 0.2]}
SETTINGS = {
    "loss": "sam",
    "epochs": 2,
    "tiles_per_epoch": None,
    "tiles_per_step": 1,
    "objects_per_tile": 4,
    "learning_rate": 1e-3,
    "weight_decay": 0.01,
    "warmup_steps": 1,
    "grad_clip": 1.0,
    "unrolled_iterations": 0,
    "mask_extent": None,
    "precision": "float32",
    "validation_levels": [0, 40],
    "training_objects": None,
    "validation_objects": 4,
}
VARIANTS = {
    "sam": {"trains": ["mask_decoder"], "token": None},
    "sam_p": {"trains": ["mask_decoder", "corner_embeddings"], "token": None},
    "proposed": {"trains": ["mask_decoder", "deviation_token"], "token": {"width": 128, "count": 1}},
    "adapted": {"trains": ["mask_decoder", "image_adapter"], "token": None, "adapter": {"width": 8}},
}
LAW = Deviation(kind="scale", direction="both")


def plain_training(name="proposed", mix=MIX, largest_component=False, **settings):
    """All that decides a training, as the workflow passes it on."""
    return {
        "model": VARIANTS[name],
        "mix": mix,
        "deviation": {"kind": "scale", "direction": "both"},
        "train": {**SETTINGS, **settings},
        "largest_component": largest_component,
    }


def training_of(*arguments, **settings):
    return TrainingConfig.model_validate(plain_training(*arguments, **settings))


PLAIN = training_of()


def arguments(stages, folder, seed=0, code="", **settings):
    slots = {"model": str(folder / "model.safetensors"), "curve": str(folder / "curve")}
    sources = {
        "stores": [stages["store"]],
        "boxes": [stages["boxes"]],
        "embeddings": [stages["embeddings"]],
        "weights": stages["weights"],
    }
    training = plain_training(**settings)
    return {**sources, **slots, "dataset": "toy", "training": training, "seed": seed, "code": code}


def call(stages, folder, **changes):
    """Run the stage into `folder` and return its curve."""
    run_stage(train, **arguments(stages, folder, **changes))
    return pd.read_csv(folder / "curve")


@pytest.fixture(scope="module")
def source(stages):
    tiles = Store.open(stages["store"])
    embeddings = Embeddings.open(stages["embeddings"], stages["store"], stages["weights"])
    return LabelledTiles(tiles, embeddings, Frame(tiles.tile_shape, Backbone.read(stages["weights"]).image_size))


@pytest.fixture(scope="module")
def table(stages):
    return read_boxes(stages["boxes"])


def alone(source, objects):
    """The data sets of a training on one."""
    return [TrainingSet(source, objects, 1.0)]


def draw_of(source, tile, objects):
    """A tile's first turn in an epoch."""
    return Draw(source, tile, objects, tile)


def new_run(sam, name, folder):
    torch.manual_seed(0)
    training = training_of(name)
    return Trainer(box_model(sam, training.model), training, 0, "float32", folder / "checkpoint", "key")


@pytest.fixture
def run(micro, tmp_path):
    return new_run(deepcopy(micro), "proposed", tmp_path)


def fit_scripted(run, source, table, mious):
    """Fit with a validation that returns these values, one for each epoch."""
    fit(run, alone(source, table.query("split == 'train'")), iter(mious).__next__)


# What is trained, and what is not


@pytest.fixture(scope="module", params=VARIANTS)
def trained(request, micro, tmp_path_factory, source, table):
    """The name of a model_config, its backbone after training, and the names of all its tensors that have changed."""
    sam = deepcopy(micro)
    run = new_run(sam, request.param, tmp_path_factory.mktemp("trained"))
    before = deepcopy(run.model.state_dict())
    fit_scripted(run, source, table, [0.1, 0.2, 0.3])
    return request.param, sam, {key for key, new in run.model.state_dict().items() if not torch.equal(new, before[key])}


def test_the_image_encoder_is_bitwise_unchanged(trained, micro):
    _, sam, changed = trained
    before = micro.image_encoder.state_dict()
    assert changed
    assert all(torch.equal(tensor, before[key]) for key, tensor in sam.image_encoder.state_dict().items())


def test_of_the_prompt_encoder_only_sam_p_changes_the_two_corners_and_nothing_else(trained):
    name, _, changed = trained
    corners = {f"prompt_encoder.point_embeddings.{index}.weight" for index in (2, 3)}
    assert {key for key in changed if key.startswith("prompt_encoder.")} == (corners if name == "sam_p" else set())


def test_the_mask_decoder_is_trained(trained):
    _, _, changed = trained
    assert "mask_decoder.iou_token.weight" in changed


def test_the_token_and_its_layer_are_trained_if_there_is_one(trained):
    name, _, changed = trained
    token = {"token.vectors", "token.project.weight", "token.project.bias"}
    assert changed & token == (token if name == "proposed" else set())


def test_the_adapter_is_trained_if_there_is_one(trained):
    name, _, changed = trained
    adapter = {f"adapter.{layer}.{part}" for layer in ("first", "second") for part in ("weight", "bias")}
    assert {key for key in changed if key.startswith("adapter.")} == (adapter if name == "adapted" else set())


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "loss"), [("proposed", "sam"), ("proposed", "bce_dice"), ("adapted", "sam")])
def test_loss_falls_on_one_batch(micro, tmp_path, source, table, name, loss, precision):
    run = new_run(deepcopy(micro), name, tmp_path)
    config = training_of(loss=loss)
    batch = draw_batch(draw_of(source, *next(by_tile(table))), config, seed=0, epoch=1)
    losses = []
    for _ in range(8):
        losses.append(step_loss(run.model, source.frame, [batch], config, precision))
        run.optimizer.zero_grad()
        losses[-1].backward()
        run.optimizer.step()
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("only_largest", [False, True])
def test_an_unrolled_iteration_is_prompted_as_in_inference(run, source, table, only_largest):
    once, twice = (training_of(unrolled_iterations=count, largest_component=only_largest) for count in (0, 1))
    batch = draw_batch(draw_of(source, *next(by_tile(table))), once, seed=0, epoch=1)
    first = step_loss(run.model, source.frame, [batch], once, "float32")
    decoder = Predictor(run.model, source.frame, "float32")
    views = decoder.views([batch.embedding], [batch.masks.shape[1:]]) * len(batch.prompts)
    masks = np.stack(decoder.predict(views, batch.prompts)[0])
    assert masks.any(axis=(1, 2)).any()
    boxes = [
        next_box(mask, only_largest) if mask.any() else box for mask, box in zip(masks, batch.prompts, strict=True)
    ]
    second = step_loss(run.model, source.frame, [replace(batch, prompts=np.stack(boxes))], once, "float32")
    torch.testing.assert_close(step_loss(run.model, source.frame, [batch], twice, "float32"), (first + second) / 2)
    assert first != second


@pytest.mark.parametrize("unrolled", [0, 1])
def test_the_loss_in_a_window_is_that_of_masks_which_end_there(run, source, table, monkeypatch, unrolled):
    config = training_of(unrolled_iterations=unrolled, mask_extent=1.5)
    batch = draw_batch(draw_of(source, *next(by_tile(table))), config, seed=0, epoch=1)
    windowed = step_loss(run.model, source.frame, [batch], config, "float32")

    def cut(model, frame, tiles, boxes, window):
        logits, predicted_iou = forward(model, frame, tiles, boxes)
        cells = frame.cells(grown(boxes, window), tiles[0].grid[0])
        return logits.where(cells.repeat_interleave(4, 1).repeat_interleave(4, 2), OUTSIDE), predicted_iou

    monkeypatch.setattr("pipeline_lib.training.trainer.forward", cut)
    torch.testing.assert_close(step_loss(run.model, source.frame, [batch], config, "float32"), windowed)
    monkeypatch.undo()
    assert step_loss(run.model, source.frame, [batch], training_of(unrolled_iterations=unrolled), "float32") != windowed


@pytest.mark.parametrize("unrolled", [0, 1])
def test_a_step_of_several_images_has_the_mean_loss_of_all_their_objects(run, source, table, unrolled):
    config = training_of(unrolled_iterations=unrolled)
    (first, rows), (second, others) = list(by_tile(table))[:2]
    batches = [
        draw_batch(draw_of(source, first, rows), config, 0, 1),
        draw_batch(draw_of(source, second, others.iloc[:2]), config, 0, 1),
    ]
    alone = [step_loss(run.model, source.frame, [batch], config, "float32").item() for batch in batches]
    assert [len(batch.prompts) for batch in batches] == [4, 2]
    assert alone[0] != alone[1]
    together = step_loss(run.model, source.frame, batches, config, "float32").item()
    assert together == pytest.approx((4 * alone[0] + 2 * alone[1]) / 6, rel=1e-4)


def test_an_epoch_of_mixed_steps_shows_each_image_once(run, source, table, monkeypatch):
    drawn = []

    def draw(tile, *rest):
        drawn.append(tile.tile)
        return draw_batch(tile, *rest)

    monkeypatch.setattr("pipeline_lib.training.trainer.draw_batch", draw)
    run.config = training_of(tiles_per_step=3)
    train_epoch(run, alone(source, table), epoch=1)
    assert sorted(drawn) == table["tile"].unique().tolist()
    assert len(run.losses) == -(-len(drawn) // 3)


def test_an_epoch_takes_at_most_so_many_tiles_and_others_the_next_time(run, source, table):
    run.config = training_of(tiles_per_epoch=1)
    count = table["tile"].nunique()
    assert count > 1
    for epoch in 1, 2:
        run.losses = []
        train_epoch(run, alone(source, table), epoch)
        assert len(run.losses) == 1


# What it is trained on


def test_data_sets_share_an_epoch_by_their_shares_and_not_by_their_sizes(source, table):
    small = table[table["tile"] == table["tile"].iloc[0]]
    sets = [TrainingSet(source, table, 1.0), TrainingSet(replace(source), small, 3.0)]
    train = training_of(tiles_per_epoch=12).train
    draws, again, other = (draw_epoch(sets, train, 0, epoch) for epoch in (1, 1, 2))
    assert [draw.source is source for draw in draws].count(False) == 9
    assert len({draw.number for draw in draws}) == 12  # no two turns draw the same objects and boxes
    assert [draw.number for draw in draws] == [draw.number for draw in again]
    assert [draw.number for draw in draws] != [draw.number for draw in other]


def test_a_model_is_trained_on_several_data_sets_and_says_so(stages, tmp_path):
    other = tmp_path / "other.zarr"
    shutil.copytree(stages["store"], other)
    folder = tmp_path / "joint"
    folder.mkdir()
    wanted = arguments(stages, folder, tiles_per_epoch=5)
    wanted["stores"].append(str(other))
    wanted["boxes"].append(stages["boxes"])
    wanted["embeddings"].append(stages["embeddings"])
    wanted["dataset"] = "joint"
    wanted["training"]["trained_on"] = {"store": 1.0, "other": 4.0}
    run_stage(train, **wanted)
    training = ModelHeader.read(folder / "model.safetensors").training
    assert training["trained_on"] == {"store": 1.0, "other": 4.0}
    assert len(training["images"]["train"]) == 2
    assert len(training["images"]["validation"]) == 1
    assert training["dataset"] == "joint"


def test_a_training_starts_from_a_model_of_its_shape(stages, tmp_path):
    for name in ("first", "second", "none"):
        (tmp_path / name).mkdir()
    call(stages, tmp_path / "first")
    start = tmp_path / "first/model.safetensors"
    wanted = arguments(stages, tmp_path / "second", epochs=0) | {"start": str(start)}
    wanted["training"]["starts_from"] = str(start)
    run_stage(train, **wanted)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    wanted = arguments(stages, tmp_path / "none", name="sam", epochs=0) | {"start": str(start)}
    with pytest.raises(WeightsError, match=r"first/model\.safetensors: does not fit its network: .*unexpected"):
        run_stage(train, **wanted)


def test_one_data_set_is_drawn_as_the_first_of_several(source, table):
    one = draw_epoch(alone(source, table), PLAIN.train, 0, 1)
    two = draw_epoch([*alone(source, table), TrainingSet(replace(source), table, 1.0)], PLAIN.train, 0, 1)
    assert {draw.number for draw in one} == {draw.number for draw in two if draw.source is source}


def test_training_boxes_have_the_shares_of_the_mix():
    exact = np.tile(np.array([[100, 100, 200, 200]], np.float32), (100_000, 1))
    sides = np.diff(draw_boxes(np.random.default_rng(0), exact, PLAIN)[:, [0, 2]]).ravel().round()
    values, counts = np.unique(sides, return_counts=True)
    assert values.tolist() == [80, 90, 100, 110, 120]
    np.testing.assert_allclose(counts / len(exact), [0.1, 0.1, 0.6, 0.1, 0.1], atol=0.005)


def test_training_boxes_of_a_mix_with_kinds_are_of_each_alike_often():
    exact = np.tile(np.array([[100, 100, 200, 200]], np.float32), (30_000, 1))
    mix = {"levels": [20], "shares": [1.0], "kinds": ["scale", "edges", "translate"]}
    x0, _, x1, _ = draw_boxes(np.random.default_rng(0), exact, training_of(mix=mix)).T.round()
    shifted = (x1 - x0 == 100) & (abs(x0 - 100) == 20)
    assert np.isin(x0, [80, 90, 110, 120]).all()
    np.testing.assert_allclose(shifted.mean(), 1 / 3, atol=0.01)
    # edges that moved alike are half of a kind, and so is what was scaled
    np.testing.assert_allclose((x1 - x0 == 120).mean(), 1 / 3 / 2 + 1 / 3 / 4, atol=0.01)


def test_a_batch_is_a_choice_of_its_image_s_objects_that_changes_with_the_epoch(source, table):
    image, rows = next(by_tile(table))
    assert len(rows) > SETTINGS["objects_per_tile"]
    first, again, other = (draw_batch(draw_of(source, image, rows), PLAIN, 0, epoch) for epoch in (1, 1, 2))
    assert len(first.exact) == len(first.prompts) == len(first.masks) == SETTINGS["objects_per_tile"]
    np.testing.assert_array_equal(first.prompts, again.prompts)
    assert not np.array_equal(first.exact, other.exact)


def test_masks_of_a_batch_lie_in_their_boxes(source, table):
    batch = draw_batch(draw_of(source, *next(by_tile(table))), PLAIN, seed=0, epoch=1)
    for mask, box in zip(batch.masks, batch.exact, strict=True):
        y, x = np.nonzero(mask.numpy())
        assert [x.min(), y.min(), x.max() + 1, y.max() + 1] == box.tolist()


def test_the_learning_rate_warms_up_and_falls_to_nothing():
    config = training_of(warmup_steps=10)
    rates = [learning_rate(step, 100, config.train) for step in range(101)]
    assert rates[0] == pytest.approx(1e-4)
    assert np.argmax(rates) == 9
    assert rates[55] == pytest.approx(1e-3 * (1 + np.cos(np.pi * 0.55)) / 2)
    assert rates[100] == 0


def test_what_goes_wrong_while_a_batch_is_read_ends_the_training(run, source, table):
    emptied = replace(source, embeddings=replace(source.embeddings, content={}))
    with pytest.raises(StaleEmbeddingsError, match="not among the embedded ones"):
        train_epoch(run, alone(emptied, table.query("split == 'train'")), epoch=1)


# Which epoch is kept


def test_the_best_epoch_is_chosen_by_validation_and_not_by_training_loss(run, source, table):
    fit_scripted(run, source, table, [0.1, 0.7, 0.7])
    losses = [row["train_loss"] for row in run.curve]
    after_two = torch.load(run.checkpoint, weights_only=True)["model"]
    assert losses[2] < losses[1]  # which would choose epoch 2
    assert not torch.equal(run.model.token.vectors, after_two["token.vectors"])


def test_an_untrained_model_is_kept_if_training_only_harms(run, source, table):
    before = deepcopy(run.model.state_dict())
    fit_scripted(run, source, table, [0.5, 0.4, 0.3])
    assert all(torch.equal(tensor, before[key]) for key, tensor in run.model.state_dict().items())


def test_the_curve_s_best_value_is_that_of_the_model_that_was_written(stages, tmp_path, source, table):
    curve = call(stages, tmp_path)
    held_out = evenly_spaced(table.query("split == 'validation'"), SETTINGS["validation_objects"])
    model = load_model(tmp_path / "model.safetensors")
    decoder = Predictor(model, source.frame, SETTINGS["precision"])
    miou = Validation(source, held_out, (0, 40), source.tiles.name, 0, LAW).miou(decoder, lambda: None)
    assert list(curve.columns) == ["epoch", "learning_rate", "train_loss", "validation_miou", "kept"]
    assert curve["kept"].tolist() == (curve.index == curve["validation_miou"].idxmax()).tolist()
    assert curve["epoch"].tolist() == [0, 1, 2]
    assert curve["validation_miou"].max() == pytest.approx(miou, abs=1e-6)


# Interruption

LONG = {"epochs": 4}


def started(stages, folder):
    """A process that runs the stage and prints its log to its standard error."""
    code = (
        "import json, logging, sys; from pipeline_lib.stages.train import train;"
        "from pipeline_lib.settings.messages import arguments_of; logging.basicConfig(level=logging.INFO);"
        "train(**arguments_of(train, json.loads(sys.argv[1])))"
    )
    wanted = json.dumps(arguments(stages, folder, **LONG))
    return subprocess.Popen([sys.executable, "-c", code, wanted], stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def killed(stages, tmp_path_factory):
    """The checkpoint of a run that was killed after its first epoch of training."""
    folder = tmp_path_factory.mktemp("killed")
    process = started(stages, folder)
    checkpoint = folder / "model.safetensors.checkpoint"
    while not checkpoint.exists() or len(torch.load(checkpoint, weights_only=True)["curve"]) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
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
    """A list that grows with the run's steps, after one of which the process gets a signal."""
    steps = []

    def note(*_):
        steps.append(len(run.curve))
        if len(steps) == signal_after:
            os.kill(os.getpid(), signal.SIGUSR1)

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
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(getattr(signal, name))
    _, errors = process.communicate()
    assert process.returncode == 128 + getattr(signal, name)
    assert f"asked to stop by {name}" in errors
    assert "stopped in epoch" in errors
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


@pytest.mark.parametrize("rate", [1e30, math.inf])
def test_a_training_that_diverges_stops_with_advice(run, source, table, rate):
    settings = PLAIN.train.model_copy(update={"learning_rate": rate, "grad_clip": 1e30, "warmup_steps": 0, "epochs": 9})
    run.config = PLAIN.model_copy(update={"train": settings})
    epochs = (train_epoch(run, alone(source, table), epoch) for epoch in range(1, 9))
    with pytest.raises(TrainingError, match=r"at step \d+ of epoch \d.*lower `train.learning_rate`, now"):
        list(epochs)
