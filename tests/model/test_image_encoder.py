"""Encoders that torch runs against segment_anything's own predictor."""

import numpy as np
import pytest
from helpers.stages import run_stage

from pipeline_lib.data.masks import iou
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.backbones import load_backbone
from pipeline_lib.model.box_model import box_model
from pipeline_lib.model.embeddings import encode_tiles as embed
from pipeline_lib.model.embeddings import to_network
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.device import multiplies_bfloat16
from pipeline_lib.stages.weights import weights
from pipeline_lib.training.pretraining import FRAME, NO_TOKEN, draw_slice, objects_of

BFLOAT16_ERROR = 0.01  # of an embedding's norm; vit_b with random weights comes to 0.0075


def relative_error(ours, expected):
    return float((ours - expected).norm() / expected.norm())


@pytest.mark.skipif(not multiplies_bfloat16(), reason="emulated, vit_b would take half an hour; smaller networks ran")
def test_vit_b_in_bfloat16_embeds_nearly_as_the_stock_predictor(predictor, grey):
    ours = embed(predictor.model, [to_network(grey, Frame(grey.shape, 1024))], "bfloat16")
    assert relative_error(ours, predictor.features) < BFLOAT16_ERROR


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped")
    run_stage(
        weights, manifest=str(folder / "manifest"), backbone={"name": "micro", "checkpoint": None}, folder=str(folder)
    )
    return load_backbone(folder / "manifest").requires_grad_(False)


@pytest.mark.parametrize(("precision", "error", "least"), [("float32", 0, 1), ("bfloat16", 0.02, 0.99)])
def test_masks_of_the_shipped_micro_are_those_of_its_own_forward(shipped, precision, error, least):
    predictor, ious = Predictor(box_model(shipped, NO_TOKEN), FRAME, "float32"), []
    for seed in range(3):
        source = draw_slice(seed, FRAME.image_size)
        boxes = np.array([box for _, box in objects_of(source.cells)], np.float32)[:10]
        scaled = to_network(source.image, FRAME)
        stock = shipped.image_encoder(shipped.preprocess(scaled.expand(1, 3, -1, -1)))
        ours = embed(shipped, [scaled], precision)
        assert relative_error(ours, stock) <= error
        views = predictor.views([ours, stock], [FRAME.tile_shape] * 2)
        masks, expected = (np.stack(predictor.predict([view] * len(boxes), boxes)[0]) for view in views)
        ious.append(iou(masks, expected))
    assert len(np.concatenate(ious)) > 20
    assert np.mean(np.concatenate(ious)) >= least
