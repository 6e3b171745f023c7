"""Steps and epochs of a training on two generated tiles: what changes, and the loss of a step."""

import math
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.training import PLAIN, VARIANTS, alone, draw_of, fit_scripted, new_run, training_of

from pipeline_lib.data.boxes import by_tile, grown
from pipeline_lib.errors import StaleEmbeddingsError, TrainingError
from pipeline_lib.inference.next_box import next_box
from pipeline_lib.inference.predictor import Predictor, forward
from pipeline_lib.model.mask_decoder import OUTSIDE
from pipeline_lib.training.sampling import draw_batch
from pipeline_lib.training.trainer import learning_rate, step_loss, train_epoch


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
    predictor = Predictor(run.model, source.frame, "float32")
    views = predictor.views([batch.embedding], [batch.masks.shape[1:]]) * len(batch.prompts)
    masks = np.stack(predictor.predict(views, batch.prompts)[0])
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


def test_the_learning_rate_warms_up_and_falls_to_nothing():
    config = training_of(warmup_steps=10)
    rates = [learning_rate(step, 100, config.train) for step in range(101)]
    assert rates[0] == pytest.approx(1e-4)
    assert np.argmax(rates) == 9
    assert rates[55] == pytest.approx(1e-3 * (1 + np.cos(np.pi * 0.55)) / 2)
    assert rates[100] == 0


def test_what_goes_wrong_while_a_batch_is_read_ends_the_training(run, source, table):
    emptied = replace(source, embeddings=replace(source.embeddings, content={}))
    with pytest.raises(StaleEmbeddingsError, match=r"tile \d+ has no embedding"):
        train_epoch(run, alone(emptied, table.query("split == 'train'")), epoch=1)


@pytest.mark.parametrize("rate", [1e30, math.inf])
def test_a_training_that_diverges_stops_with_advice(run, source, table, rate):
    settings = PLAIN.train.model_copy(update={"learning_rate": rate, "grad_clip": 1e30, "warmup_steps": 0, "epochs": 9})
    run.config = PLAIN.model_copy(update={"train": settings})
    epochs = (train_epoch(run, alone(source, table), epoch) for epoch in range(1, 9))
    with pytest.raises(TrainingError, match=r"at step \d+ of epoch \d.*lower `train.learning_rate`, now"):
        list(epochs)


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
