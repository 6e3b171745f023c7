"""The pretraining script on a few slices, and how good the weights are that it made."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.stages import run_stage

from pipeline_lib.model.backbones import SHIPPED, load_backbone
from pipeline_lib.model.checkpoints import read_tensors
from pipeline_lib.model.micro import IMAGE_SIZE
from pipeline_lib.stages.weights import weights
from pipeline_lib.training import pretraining as pretrain


@pytest.fixture(scope="module")
def pool():
    return [pretrain.draw_slice(pretrain.SEED + i) for i in range(2)]


def test_examples_hold_whole_objects_of_the_crop_in_their_boxes(pool):
    example = pretrain.draw_example(np.random.default_rng(0), pool[0])
    assert example.image.shape == (IMAGE_SIZE, IMAGE_SIZE)
    for mask, (x0, y0, x1, y1) in zip(example.masks, example.boxes.astype(int), strict=True):
        assert mask.sum() == mask[y0:y1, x0:x1].sum() >= pretrain.MINIMUM_AREA
        assert mask[y0:y1, x0:x1].any(axis=0).all()
        assert mask[y0:y1, x0:x1].any(axis=1).all()


def test_jitter_stays_within_sams_limit():
    boxes = np.tile(np.array([[40, 40, 240, 50]], np.float32), (1000, 1))
    moved = np.abs(pretrain.jitter(np.random.default_rng(0), boxes) - boxes)
    assert moved[:, 0].max() == pytest.approx(pretrain.JITTER_LIMIT)  # 10 % of 200 pixels is a standard deviation
    assert 0.5 < moved[:, 1].mean() < 1.1  # 0.8 is the mean of |normal| for 10 % of 10 pixels


def test_the_pool_grows_only_when_masks_are_good(pool):
    curriculum = pretrain.Curriculum(pool * 4)
    for _ in range(100):
        curriculum.record(0.5)
    assert curriculum.available == pretrain.POOL_START
    for _ in range(pretrain.POOL_PATIENCE):
        curriculum.record(0.9)
    assert curriculum.available == pretrain.POOL_START * pretrain.POOL_GROWTH


def test_pretraining_writes_weights_that_fit_the_backbone(pool, tmp_path: Path):
    path = tmp_path / "micro.safetensors"
    pretrain.pretrain(pool, steps=2, until=1, path=path)
    run_stage(
        weights, manifest=str(tmp_path / "m"), backbone={"name": "micro", "checkpoint": str(path)}, folder=str(tmp_path)
    )
    assert all(tensor.dtype == torch.float16 for tensor in read_tensors(path).values())


def test_shipped_weights_segment_unseen_slices(tmp_path: Path):
    """The card's figure is over 100 slices; ten tell a broken file from a good one."""
    manifest = tmp_path / "manifest.json"
    run_stage(weights, manifest=str(manifest), backbone={"name": "micro", "checkpoint": None}, folder=str(tmp_path))
    assert SHIPPED["micro"].stat().st_size < 16 * 2**20
    assert pretrain.unseen_miou(load_backbone(manifest), 10) > 0.8
