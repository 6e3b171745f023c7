"""Our forward of SAM's mask decoder against segment_anything's own, on the same weights."""

from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch
from helpers.networks import random_backbone
from helpers.stages import run_stage
from torch._subclasses.fake_tensor import FakeTensorMode

from pipeline_lib.data.boxes import grown
from pipeline_lib.data.masks import iou
from pipeline_lib.inference.predictor import Predictor, forward
from pipeline_lib.model.backbones import build, load_backbone
from pipeline_lib.model.box_model import box_model
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.mask_decoder import OUTSIDE
from pipeline_lib.settings.model import ModelConfig, Token
from pipeline_lib.stages.weights import weights
from pipeline_lib.training.pretraining import FRAME, draw_slice, objects_of
from pipeline_lib.training.pretraining import encode_crops as embed

PLAIN = ModelConfig(trains=("mask_decoder",), token=None)
PROPOSED = ModelConfig(trains=("mask_decoder", "deviation_token"), token=Token(width=128, count=1))
BOXES = 10  # of a slice: where bfloat16 is emulated each takes seconds
SPREAD = 5.0  # standard deviation of logits that SAM's released weights come to


def stock(model, embedding, boxes):
    """Low-resolution logits and predicted IoU by segment_anything's modules alone."""
    sparse, dense = model.prompt_encoder(points=None, boxes=boxes, masks=None)
    if model.token is not None:
        sparse = torch.cat([sparse, model.token().expand(len(boxes), 1, -1)], dim=1)
    logits, predicted_iou = model.mask_decoder(
        image_embeddings=embedding,
        image_pe=model.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return logits[:, 0], predicted_iou[:, 0]


def lean(model, embedding, boxes, cells=None):
    return model([model.image_features([embedding])[0]] * len(boxes), boxes, cells)


def draw_cells(count, side, seed=0):
    """Some cells of an embedding for each box, for the first none."""
    cells = torch.rand(count, side, side, generator=torch.Generator().manual_seed(seed)) < 0.3
    cells[0] = False
    return cells


def pixels_of(cells):
    """The low-resolution pixels that cells become."""
    return cells.repeat_interleave(4, 1).repeat_interleave(4, 2)


def draw_boxes(count, side, seed=0):
    """Boxes XYXY anywhere in a square of some pixels, with fractions of pixels."""
    corners = np.random.default_rng(seed).uniform(0, side, (count, 2, 2))
    return torch.from_numpy(np.concatenate([corners.min(1), corners.max(1)], axis=1)).float()


@pytest.fixture(scope="module", params=["micro", "vit_b"])
def backbone(request):
    """A backbone with random weights whose masks have logits of realistic size, and an embedding."""
    sam = random_backbone(request.param)
    size = sam.prompt_encoder.image_embedding_size
    embedding = torch.randn(1, 256, *size, generator=torch.Generator().manual_seed(1))
    last = sam.mask_decoder.output_hypernetworks_mlps[0].layers[-1]
    logits, _ = stock(box_model(sam, PLAIN), embedding, draw_boxes(2, 8 * size[0]))
    last.weight *= SPREAD / logits.std()
    last.bias *= SPREAD / logits.std()
    return sam, embedding


@pytest.fixture(params=[PLAIN, PROPOSED], ids=["plain", "token"])
def model(request, backbone):
    torch.manual_seed(2)
    model = box_model(backbone[0], request.param).requires_grad_(False)
    if model.token is not None:
        model.token.project.weight *= 100  # far from where it starts, so that it matters
    return model


@pytest.fixture
def embedding(backbone):
    return backbone[1]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_logits_and_predicted_iou_are_those_of_stock(model, embedding, count):
    boxes = draw_boxes(count, model.prompt_encoder.input_image_size[0])
    (logits, predicted_iou), (expected, expected_iou) = lean(model, embedding, boxes), stock(model, embedding, boxes)
    assert expected.std() > SPREAD / 2
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(predicted_iou, expected_iou, rtol=0, atol=1e-4)
    assert ((logits > 0) == (expected > 0)).double().mean() >= 0.99999


def test_logits_of_some_cells_are_those_of_all(model, embedding):
    boxes, cells = draw_boxes(3, model.prompt_encoder.input_image_size[0]), draw_cells(3, embedding.shape[-1])
    logits, predicted_iou = lean(model, embedding, boxes, cells)
    all_logits, all_ious = lean(model, embedding, boxes)
    torch.testing.assert_close(predicted_iou, all_ious)
    torch.testing.assert_close(logits, all_logits.where(pixels_of(cells), torch.tensor(OUTSIDE)), rtol=0, atol=1e-4)


def test_a_box_has_the_same_mask_alone_as_among_others(model, embedding):
    image, boxes = model.image_features([embedding])[0], draw_boxes(5, model.prompt_encoder.input_image_size[0])
    together, _ = model([image] * 5, boxes)
    alone = torch.cat([model([image], box[None])[0] for box in boxes])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-4)


def test_the_predicted_iou_is_not_rounded_to_bfloat16(model, embedding):
    with torch.autocast("cpu", torch.bfloat16):
        _, predicted_iou = lean(model, embedding, draw_boxes(2, model.prompt_encoder.input_image_size[0]))
    assert predicted_iou.dtype == torch.float32
    assert (predicted_iou != predicted_iou.bfloat16().float()).any()


def test_coordinates_are_not_rounded_to_bfloat16(model, embedding, monkeypatch):
    monkeypatch.setattr("pipeline_lib.model.box_model.decode", lambda _, images, prompts, cells: (images, prompts))
    boxes = draw_boxes(2, model.prompt_encoder.input_image_size[0])
    with torch.autocast("cpu", torch.bfloat16):
        images, prompts = lean(model, embedding, boxes)
    assert torch.equal(prompts[:, :2], model.prompt_encoder(points=None, boxes=boxes, masks=None)[0])
    assert torch.equal(images[0].positions.encoding, model.prompt_encoder.get_dense_pe()[0].flatten(1).T)


def test_boxes_of_several_images_have_the_masks_of_their_own(model, embedding):
    images = model.image_features([embedding, embedding.flip(2), 2 * embedding])
    boxes = draw_boxes(6, model.prompt_encoder.input_image_size[0])
    owners = [0, 0, 1, 2, 2, 2]
    together, ious = model([images[owner] for owner in owners], boxes)
    alone = [model([images[owner]], box[None]) for owner, box in zip(owners, boxes, strict=True)]
    torch.testing.assert_close(torch.cat([logits for logits, _ in alone]), together, rtol=0, atol=1e-4)
    torch.testing.assert_close(torch.cat([iou for _, iou in alone]), ious, rtol=0, atol=1e-4)
    assert (together[0] - model([images[1]], boxes[:1])[0][0]).abs().max() > 0.1


def gradients(forward, backbone, model_config, cells):
    """Of all that a model_config trains, after a loss that pulls at masks, in some cells, and at predicted IoU."""
    sam, embedding = backbone
    torch.manual_seed(2)
    model = deepcopy(box_model(sam, model_config))
    trained = model.set_trainable(model_config)
    logits, predicted_iou = forward(model, embedding, draw_boxes(3, sam.prompt_encoder.input_image_size[0]))
    shares = (logits.sigmoid() * pixels_of(cells)).mean(dim=(1, 2))
    (shares.square().sum() + predicted_iou.square().sum()).backward()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: parameter.grad for parameter in trained}


@pytest.mark.parametrize(
    "model_config",
    [ModelConfig(trains=("mask_decoder", "corner_embeddings"), token=None), PROPOSED],
    ids=["corners", "token"],
)
@pytest.mark.parametrize("everywhere", [True, False])
def test_gradients_are_those_of_stock(backbone, model_config, everywhere):
    cells = draw_cells(3, backbone[1].shape[-1]) | everywhere
    forward = lean if everywhere else partial(lean, cells=cells)
    ours, expected = (gradients(each, backbone, model_config, cells) for each in (forward, stock))
    for name, gradient in expected.items():
        if ours[name] is None:  # which stock fills with zeros: the three masks that nobody asked for
            assert gradient is None or not gradient.any(), name
        elif gradient.norm() > 1e-7:
            assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The shipped `micro`, and the embedding, boxes and masks of stock of three generated slices."""
    folder = tmp_path_factory.mktemp("shipped")
    run_stage(
        weights, manifest=str(folder / "manifest"), backbone={"name": "micro", "checkpoint": None}, folder=str(folder)
    )
    sam = load_backbone(folder / "manifest").requires_grad_(False)
    model = box_model(sam, PLAIN)
    slices = []
    for seed in range(3):
        source = draw_slice(seed, FRAME.image_size)
        boxes = np.array([box for _, box in objects_of(source.cells)], np.float32)[:BOXES]
        embedding = embed(sam, [source.image.astype(np.float32)])
        logits, _ = stock(model, embedding, FRAME.to_network(boxes))
        slices.append((embedding, boxes, FRAME.mask(logits).numpy()))
    return model, slices


@pytest.mark.parametrize(("precision", "least"), [("float32", 1.0), ("bfloat16", 0.995)])
def test_masks_of_generated_slices_are_those_of_stock(shipped, precision, least):
    model, slices = shipped
    decoder = Predictor(model, FRAME, precision)
    ious, equal = [], []
    for embedding, boxes, expected in slices:
        masks = np.stack(decoder.predict(decoder.views([embedding], [FRAME.tile_shape]) * len(boxes), boxes)[0])
        ious.append(iou(masks, expected)[np.count_nonzero(expected, axis=(1, 2)) >= 64])
        equal.append(np.mean(masks == expected))
    assert len(np.concatenate(ious)) > 20
    assert np.mean(np.concatenate(ious)) >= least


def test_masks_end_at_the_window_around_their_box_and_are_whole_within(shipped):
    model, ((embedding, boxes, _), *_) = shipped
    small = grown(boxes, 0.5)  # so that masks go on beyond
    whole, cut = [], []
    for window, masks in ((None, whole), (1.5, cut)):
        decoder = Predictor(model, FRAME, "float32", window)
        masks += decoder.predict(decoder.views([embedding], [FRAME.tile_shape]) * len(small), small)[0]
    for one, other, (x0, y0, x1, y1) in zip(whole, cut, grown(small, 1.5), strict=True):
        y, x = np.indices(one.shape) + 0.5
        np.testing.assert_array_equal(one & (y >= y0) & (y < y1) & (x >= x0) & (x < x1), other)
    assert any((one != other).any() for one, other in zip(whole, cut, strict=True))


def test_a_call_on_a_gpu_stays_there(monkeypatch):
    """On a pretended one, whose tensors have shapes and no values."""
    monkeypatch.setattr("pipeline_lib.inference.predictor.device", lambda: torch.device("cuda"))
    with FakeTensorMode(allow_non_fake_inputs=True):
        with torch.device("cuda"):
            decoder = Predictor(box_model(build("vit_b"), PROPOSED), Frame((512, 512), 1024), "float32")
            embedding = torch.zeros(1, 256, 64, 64)
        with torch.inference_mode():
            sides = [view.features for view in decoder.views([embedding], [(512, 512)])] * 3
            logits, predicted_iou = forward(decoder.model, decoder.frame, sides, np.ones((3, 4), np.float32))
            masks = decoder.frame.mask(logits)
    assert (masks.shape, masks.device.type) == ((3, 512, 512), "cuda")
    assert (predicted_iou.shape, predicted_iou.device.type) == ((3,), "cuda")
