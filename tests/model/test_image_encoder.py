"""Our forward of SAM's image encoder against segment_anything's own, on the same weights."""

from functools import partial

import numpy as np
import pytest
import torch
from helpers.stages import run_stage
from segment_anything.modeling import ImageEncoderViT
from torch import nn

from pipeline_lib.data.masks import iou
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.backbones import load_backbone
from pipeline_lib.model.box_model import box_model
from pipeline_lib.model.embeddings import encode_tiles as embed
from pipeline_lib.model.embeddings import to_network
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.image_encoder import PIECE, at_once, encode, fused, in_pieces, relative_positions
from pipeline_lib.runtime.device import autocast, multiplies_bfloat16
from pipeline_lib.stages.weights import weights
from pipeline_lib.training.pretraining import FRAME, NO_TOKEN, draw_slice, objects_of

WIDTHS_AND_HEADS = {"vit_b": (768, 12), "vit_l": (1024, 16), "vit_h": (1280, 16)}
GRID = 20  # cells: neither windows of 14 nor pieces end where it ends
BFLOAT16_ERROR = 0.01  # of an embedding's norm; vit_b with random weights comes to 0.0062


def relative_error(ours, expected):
    return float((ours - expected).norm() / expected.norm())


def two_blocks(width, heads):
    """Two blocks of a SAM encoder, one with windows and one without, on a smaller image; all weights are random."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=16 * GRID,
        embed_dim=width,
        depth=2,
        num_heads=heads,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=14,
        global_attn_indexes=(1,),
    ).requires_grad_(False)
    for parameter in encoder.parameters():
        parameter += 0.02 * torch.randn_like(parameter)
    return encoder


@pytest.fixture(scope="module", params=WIDTHS_AND_HEADS)
def small(request):
    return two_blocks(*WIDTHS_AND_HEADS[request.param])


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 16 * GRID, 16 * GRID, generator=torch.Generator().manual_seed(1))


def test_embeddings_are_those_of_stock(small, images):
    expected = small(images)
    assert expected.std() > 0.1
    assert GRID % PIECE
    torch.testing.assert_close(encode(small, images), expected, rtol=0, atol=1e-4)


def test_embeddings_in_bfloat16_are_nearly_those_of_stock(images):
    small = two_blocks(width=192, heads=3)  # that a processor without units for it ends as well
    with autocast("bfloat16"):
        ours = encode(small, images)
    assert ours.dtype == torch.float32
    assert 1e-4 < relative_error(ours, small(images)) < BFLOAT16_ERROR


@pytest.mark.parametrize("attend", [at_once, in_pieces])
def test_attention_is_that_of_torch_with_positions_that_matter(attend, small):
    attention = small.blocks[1].attn
    q, k, v = torch.randn(3, 2, attention.num_heads, GRID, GRID, 64, generator=torch.Generator().manual_seed(2))
    attention_of_64 = nn.Module()
    attention_of_64.rel_pos_h, attention_of_64.rel_pos_w = attention.rel_pos_h[:, :64], attention.rel_pos_w[:, :64]
    positions = relative_positions(attention_of_64, q)
    expected = fused(q, k, v, *positions)
    torch.testing.assert_close(attend(q, k, v, *positions), expected, rtol=0, atol=1e-5)
    without = fused(q, k, v, *map(torch.zeros_like, positions))
    assert (without - expected).abs().max() > 1e-2


def test_gradients_are_those_of_stock(small, images):
    def gradient(forward):
        pixels = images[:1].clone().requires_grad_()
        forward(pixels).square().sum().backward()
        return pixels.grad

    ours, expected = gradient(partial(encode, small)), gradient(small)
    assert relative_error(ours, expected) < 1e-4


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
    decoder, ious = Predictor(box_model(shipped, NO_TOKEN), FRAME, "float32"), []
    for seed in range(3):
        source = draw_slice(seed, FRAME.image_size)
        boxes = np.array([box for _, box in objects_of(source.cells)], np.float32)[:10]
        scaled = to_network(source.image, FRAME)
        stock = shipped.image_encoder(shipped.preprocess(scaled.expand(1, 3, -1, -1)))
        ours = embed(shipped, [scaled], precision)
        assert relative_error(ours, stock) <= error
        views = decoder.views([ours, stock], [FRAME.tile_shape] * 2)
        masks, expected = (np.stack(decoder.predict([view] * len(boxes), boxes)[0]) for view in views)
        ious.append(iou(masks, expected))
    assert len(np.concatenate(ious)) > 20
    assert np.mean(np.concatenate(ious)) >= least
