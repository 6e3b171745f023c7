"""Parity with segment_anything, on random weights."""

import json
import os
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from segment_anything.utils.transforms import ResizeLongestSide
from torch import nn
from torch.nn import functional as F

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.model_header import ENTRY, ModelHeader
from pipeline_lib.errors import DataError, TrainingError, WeightsError
from pipeline_lib.model.backbones import build, load_backbone
from pipeline_lib.model.box_model import BoxModel, DeviationToken, box_model, load_model, load_untrained, save_model
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.mask_decoder import OUTSIDE
from pipeline_lib.settings.model import Adapter, ModelConfig, Token

SAM = ModelConfig(trains=("mask_decoder",), token=None)
SAM_P = ModelConfig(trains=("mask_decoder", "corner_embeddings"), token=None)
PROPOSED = ModelConfig(trains=("mask_decoder", "deviation_token"), token=Token(width=128, count=1))
ADAPTED = ModelConfig(trains=("mask_decoder", "image_adapter"), token=None, adapter=Adapter(width=8))
TILE = (90, 130)  # of the fixture `grey`
BOXES = np.array([[3, 4, 60, 50], [20.5, 10, 129, 88.25], [0, 0, 130, 90], [70, 30, 71, 31]], np.float32)


@pytest.fixture(scope="module")
def plain(predictor):
    return BoxModel(predictor.model.prompt_encoder, predictor.model.mask_decoder, None)


@pytest.fixture(scope="module")
def frame(predictor):
    return Frame(TILE, predictor.model.image_encoder.img_size)


@pytest.fixture(scope="module")
def stock(predictor):
    """Masks, predicted IoU and low-resolution logits of each of BOXES, by segment_anything's own path."""
    return [predictor.predict(box=box, multimask_output=False) for box in BOXES]


@pytest.fixture
def embedding():
    return torch.randn(1, 256, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def boxes():
    return Frame(TILE, 256).to_network(BOXES)


@pytest.fixture
def proposed(micro):
    torch.manual_seed(2)
    return box_model(deepcopy(micro), PROPOSED)


@pytest.fixture
def adapted(micro):
    torch.manual_seed(2)
    return box_model(deepcopy(micro), ADAPTED)


@torch.no_grad()
def test_batched_logits_are_those_of_the_stock_predictor(predictor, plain, frame, stock):
    logits, _ = plain([plain.image_features([predictor.features])[0]] * len(BOXES), frame.to_network(BOXES))
    expected = np.concatenate([low for _, _, low in stock])
    assert expected.std() > 0.1
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_predicted_iou_is_that_of_the_stock_predictor(predictor, plain, frame, stock):
    _, predicted_iou = plain([plain.image_features([predictor.features])[0]] * len(BOXES), frame.to_network(BOXES))
    np.testing.assert_allclose(predicted_iou, np.concatenate([iou for _, iou, _ in stock]), rtol=0, atol=1e-5)


@torch.no_grad()
def test_masks_are_exactly_those_of_the_stock_predictor(predictor, plain, frame, stock):
    logits, _ = plain([plain.image_features([predictor.features])[0]] * len(BOXES), frame.to_network(BOXES))
    masks, expected = frame.mask(logits).numpy(), np.concatenate([mask for mask, _, _ in stock])
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(masks, expected)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 3])
def test_chunk_size_does_not_change_logits(predictor, plain, frame, chunk):
    prompts, image = frame.to_network(BOXES), plain.image_features([predictor.features])[0]
    whole, _ = plain([image] * len(prompts), prompts)
    parts = [plain([image] * len(part), part)[0] for part in prompts.split(chunk)]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-5)


@torch.no_grad()
def test_token_last_equals_the_same_vector_prompted_as_a_point(predictor, frame):
    torch.manual_seed(3)
    token = DeviationToken(Token(width=128, count=1), 256)
    token.project.weight.mul_(100)  # far from where it starts, so that it matters
    model = BoxModel(predictor.model.prompt_encoder, predictor.model.mask_decoder, token)
    logits, _ = model([model.image_features([predictor.features])[0]] * len(BOXES), frame.to_network(BOXES))
    saved = predictor.model.prompt_encoder.not_a_point_embed.weight.clone()
    predictor.model.prompt_encoder.not_a_point_embed.weight.copy_(token())
    point = {"point_coords": np.zeros((1, 2)), "point_labels": np.array([-1])}
    expected = [predictor.predict(box=box, multimask_output=False, **point)[2] for box in BOXES]
    predictor.model.prompt_encoder.not_a_point_embed.weight.copy_(saved)
    np.testing.assert_allclose(logits, np.concatenate(expected), rtol=0, atol=1e-5)


@torch.no_grad()
def test_token_changes_the_output(proposed, embedding, boxes):
    images = [proposed.image_features([embedding])[0]] * len(boxes)
    with_token, _ = proposed(images, boxes)
    without, _ = BoxModel(proposed.prompt_encoder, proposed.mask_decoder, None)(images, boxes)
    assert (with_token - without).abs().max() > 1e-3


TILES = [(256, 256), (90, 130), (300, 211), (7, 1000), (128, 128), (128, 90)]


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("grid", [64, 128])  # enlarged by four, as SAM's own networks do, or by two
def test_mask_is_that_of_postprocess_masks(micro, tile, grid):
    logits = torch.randn(3, grid, grid, generator=torch.Generator().manual_seed(0))
    frame = Frame(tile, 256)
    expected = micro.postprocess_masks(logits[:, None], frame.input_shape, tile)[:, 0] > micro.mask_threshold
    assert torch.equal(frame.mask(logits), expected)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("grid", [64, 128])
@pytest.mark.parametrize("centre", [(0, 0), (1, 126), (127, 127), (40, 63), (400, 400)])
def test_mask_that_lives_in_a_corner_is_that_of_postprocess_masks(micro, tile, grid, centre):
    y, x = torch.meshgrid(*[128 / grid * torch.arange(grid)] * 2, indexing="ij")
    noise = torch.randn(2, grid, grid, generator=torch.Generator().manual_seed(0))
    logits = 9 - ((y - centre[0]) ** 2 + (x - centre[1]) ** 2).sqrt() + 2 * noise  # (400, 400): no pixel of it
    frame = Frame(tile, 256)
    expected = micro.postprocess_masks(logits[:, None], frame.input_shape, tile)[:, 0] > micro.mask_threshold
    assert torch.equal(frame.mask(logits), expected)


@pytest.mark.parametrize("tile", [(256, 256), (100, 80), (512, 512), (33, 300)])
def test_masks_within_boxes_are_those_of_the_whole_tile(tile):
    frame, (height, width) = Frame(tile, 256), tile
    logits = F.interpolate(torch.randn(40, 1, 16, 16, generator=torch.Generator().manual_seed(0)), (64, 64))[:, 0]
    corners = np.random.default_rng(0).uniform(-0.3, 1.3, (40, 2, 2)) * (width, height)  # also outside of the tile
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    x0, y0, x1, y1 = boxes.T[..., None]
    y, x = np.arange(height) + 0.5, np.arange(width) + 0.5
    inside = ((y >= y0) & (y < y1))[:, :, None] & ((x >= x0) & (x < x1))[:, None]
    np.testing.assert_array_equal(frame.pixels(torch.from_numpy(boxes)), inside)  # by which a GPU cuts whole masks
    asked = frame.cells(boxes, 16).repeat_interleave(4, 1).repeat_interleave(4, 2)
    masks = frame.masks_within(logits.where(asked, torch.tensor(OUTSIDE)), boxes)  # from their cells alone
    assert 0.05 < masks.mean() < inside.mean()
    assert np.mean(masks != frame.mask(logits).numpy() & inside) < 1e-6


@pytest.mark.parametrize("tile", [(256, 256), (90, 130), (300, 211)])
def test_boxes_reach_the_network_as_in_sam(tile):
    expected = ResizeLongestSide(256).apply_boxes(BOXES, tile).astype(np.float32)
    np.testing.assert_array_equal(Frame(tile, 256).to_network(BOXES), expected)


@pytest.mark.parametrize("model_config", [SAM, SAM_P, PROPOSED, ADAPTED])
def test_only_the_variants_parts_are_trainable(micro, model_config):
    model = box_model(deepcopy(micro), model_config)
    trained = model.set_trainable(model_config)
    prefixes = {
        "mask_decoder": ("mask_decoder.",),
        "corner_embeddings": ("prompt_encoder.point_embeddings.2.", "prompt_encoder.point_embeddings.3."),
        "deviation_token": ("token.",),
        "image_adapter": ("adapter.",),
    }
    expected = {
        name
        for name, _ in model.named_parameters()
        if name.startswith(sum((prefixes[p] for p in model_config.trains), ()))
    }
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == expected
    assert len(trained) == len(expected)


def test_the_masks_pull_at_the_token(proposed, embedding, boxes):
    proposed.set_trainable(PROPOSED)
    logits, _ = proposed([proposed.image_features([embedding])[0]] * len(boxes), boxes)
    logits.square().mean().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in proposed.token.parameters())


def test_an_adapter_begins_as_if_there_were_none_and_is_learned_from_the_masks(micro, adapted, embedding, boxes):
    plain = box_model(micro, SAM)
    expected, _ = plain([plain.image_features([embedding])[0]] * len(boxes), boxes)
    adapted.set_trainable(ADAPTED)
    logits, _ = adapted([adapted.image_features([embedding])[0]] * len(boxes), boxes)
    assert torch.equal(logits, expected)
    logits.square().mean().backward()
    assert adapted.adapter.second.weight.grad.abs().sum() > 0


def test_a_part_that_the_model_lacks_cannot_be_trained(micro):
    model = box_model(deepcopy(micro), SAM)
    with pytest.raises(TrainingError, match="the model has no deviation_token and no image_adapter to train"):
        model.set_trainable(ModelConfig(trains=("mask_decoder", "deviation_token", "image_adapter"), token=None))


@torch.no_grad()
def test_what_an_adapter_adds_is_shared_by_all_boxes_of_an_image(micro, adapted, embedding):
    plain = box_model(micro, SAM)
    nn.init.normal_(adapted.adapter.second.weight, std=0.1)
    (changed,) = adapted.image_features([embedding])
    (given,) = plain.image_features([adapted.adapter(embedding)])
    assert torch.equal(changed.features, given.features)
    assert not torch.equal(changed.features, plain.image_features([embedding])[0].features)


@pytest.mark.parametrize(("name", "model_config"), [("proposed", PROPOSED), ("adapted", ADAPTED)])
@torch.no_grad()
def test_a_saved_model_comes_back_the_same(request, name, model_config, embedding, boxes, tmp_path):
    model = request.getfixturevalue(name)
    save_model(model, tmp_path / "model.safetensors", "micro", model_config, {})
    again = load_model(tmp_path / "model.safetensors")
    logits = [model([model.image_features([embedding])[0]] * len(boxes), boxes)[0] for model in (again, model)]
    assert torch.equal(*logits)
    assert not any(tensor.is_meta for tensor in again.state_dict().values())


OLD_TRAINING = {
    "dataset": "cells",
    "seed": 0,
    "precision": "float32",
    "model_config": {
        "trains": ["mask_decoder", "deviation_token"],
        "token": {"width": 128, "count": 1},
        "mix": {"levels": [0, 20], "shares": [0.5, 0.5]},
    },
    "settings": {"loss": "sam", "epochs": 2, "window": 2.0, "largest_component": True, "validation_objects": 20},
    "deviation": {"kind": "scale", "direction": "both"},
    "levels": [0, 40],
}


@pytest.mark.parametrize(
    ("variant", "shape"),
    [
        ("proposed", {"trains": ["mask_decoder", "deviation_token"], "token": {"width": 128, "count": 1}}),
        ("adapted", {"trains": ["mask_decoder", "image_adapter"], "token": None, "adapter": {"width": 8}}),
    ],
)
def test_a_file_with_the_header_of_before_is_read(request, variant, shape, tmp_path):
    model, path = request.getfixturevalue(variant), tmp_path / "model.safetensors"
    header = {"backbone": "micro", "model_config": shape, "training": OLD_TRAINING}
    save_file(model.state_dict(), path, {ENTRY: json.dumps(header)})
    assert load_model(path).state_dict().keys() == model.state_dict().keys()
    training = ModelHeader.read(path).training
    assert training["model"]["trains"] == ["mask_decoder", "deviation_token"]
    assert training["mix"] == {"levels": [0, 20], "shares": [0.5, 0.5], "kinds": None}
    assert training["train"] == {
        "loss": "sam",
        "epochs": 2,
        "validation_objects": 20,
        "mask_extent": 2.0,
        "validation_levels": [0, 40],
    }
    assert (training["largest_component"], training["dataset"]) == (True, "cells")


def test_a_model_is_saved_byte_for_byte_the_same(proposed, tmp_path):
    for name in ("a", "b"):
        save_model(proposed, tmp_path / name, "micro", PROPOSED, {})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_backbone_is_not_taken_for_a_model(micro, tmp_path):
    save_file(micro.state_dict(), tmp_path / "micro.safetensors")
    with pytest.raises(WeightsError, match=r"micro\.safetensors: expected a model of the stage train"):
        load_model(tmp_path / "micro.safetensors")


@pytest.fixture
def manifest(micro, tmp_path):
    checkpoint = tmp_path / "micro.safetensors"
    save_file({key: value.half() for key, value in micro.state_dict().items()}, checkpoint)
    record = Backbone.of("micro", checkpoint, 256, "Sam.preprocess")
    (tmp_path / "manifest.json").write_text(json.dumps(asdict(record)))
    return tmp_path / "manifest.json"


def test_half_precision_weights_are_loaded_in_float32(micro, manifest):
    loaded = load_backbone(manifest).state_dict()
    assert all(torch.equal(loaded[key], value.half().float()) for key, value in micro.state_dict().items())


def test_a_loaded_backbone_keeps_the_pixel_statistics_of_its_network(micro, manifest):
    assert torch.equal(load_backbone(manifest).pixel_mean, micro.pixel_mean)


def test_an_untrained_model_has_the_backbones_weights_and_a_new_token(micro, manifest):
    torch.manual_seed(0)
    made = load_untrained(manifest, PROPOSED).state_dict()
    torch.manual_seed(0)
    expected = box_model(load_backbone(manifest), PROPOSED).state_dict()
    assert made.keys() == expected.keys()
    assert all(torch.equal(made[key], value) for key, value in expected.items())


def without(part, micro, manifest):
    """Take a part of the network out of the manifest's checkpoint."""
    checkpoint = Backbone.read(manifest).checkpoint
    save_file({key: value for key, value in micro.state_dict().items() if not key.startswith(part)}, checkpoint)
    manifest.write_text(json.dumps(asdict(Backbone.of("micro", Path(checkpoint), 256, "Sam.preprocess"))))


def test_an_untrained_model_needs_no_encoder(micro, manifest):
    without("image_encoder", micro, manifest)
    load_untrained(manifest, PROPOSED)
    with pytest.raises(WeightsError, match=r"micro\.safetensors: does not fit its network: \d+ missing"):
        load_backbone(manifest)


def test_a_backbone_without_a_decoder_is_no_model(micro, manifest):
    without("mask_decoder", micro, manifest)
    with pytest.raises(WeightsError, match=r"micro\.safetensors: does not fit its network: \d+ missing"):
        load_untrained(manifest, PROPOSED)


def test_a_checkpoint_of_another_time_with_the_same_bytes_is_taken(micro, manifest):
    Path(Backbone.read(manifest).checkpoint).touch()
    load_backbone(manifest)


@pytest.mark.parametrize("load", [load_backbone, partial(load_untrained, model_config=PROPOSED)])
def test_a_checkpoint_that_changed_after_its_manifest_is_refused(load, micro, manifest):
    checkpoint = Backbone.read(manifest).checkpoint
    save_file(micro.state_dict(), checkpoint)
    with pytest.raises(WeightsError, match=r"micro\.safetensors: changed since"):
        load(manifest)


def test_an_unknown_backbone_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match=r"'vit_x': expected one of micro, litemedsam, .*, vit_l, vit_h"):
        build("vit_x")


def test_a_saved_model_is_for_those_whom_the_umask_lets(proposed, tmp_path):
    before = os.umask(0o022)
    try:
        save_model(proposed, tmp_path / "m.safetensors", "micro", PROPOSED, {})
    finally:
        os.umask(before)
    assert (tmp_path / "m.safetensors").stat().st_mode & 0o777 == 0o644
