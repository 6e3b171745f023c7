"""Networks and generated images that several benchmarks use."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from segment_anything.modeling import Sam
from torch import nn

from pipeline_lib.api import backbone_choice
from pipeline_lib.config.defaults import default_config
from pipeline_lib.config.read import read_config
from pipeline_lib.data.boxes import object_boxes
from pipeline_lib.data.masks import Mask
from pipeline_lib.inference.iterate import Prediction, first_predictions, iterate
from pipeline_lib.inference.predictor import Predictor, TileFeatures
from pipeline_lib.model.backbones import build, load_backbone
from pipeline_lib.model.openvino_encoder import OpenVinoEncoder, convert
from pipeline_lib.runtime.device import Precision, device
from pipeline_lib.stages.weights import weights
from pipeline_lib.training.pretraining import UNSEEN_SEED, draw_slice

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
MINIMUM_AREA = 64  # of a cell, pixels
CONFIG = read_config(default_config())


def random_sam(name: str) -> Sam:
    """Return a backbone with random weights whose logits are as large as those of a trained network.

    Weights that are zero after initialisation are random too, so that no operation is trivial.
    """
    torch.manual_seed(0)
    sam = build(name).requires_grad_(False)
    for parameter in sam.parameters():
        parameter += 0.02 * torch.randn_like(parameter)
    last = sam.mask_decoder.output_hypernetworks_mlps[0].layers[-1]
    last.weight *= 50
    last.bias *= 50
    return sam.to(device())


def random_checkpoint(name: str, folder: str | Path) -> str:
    """Write the weights of `random_sam` into a folder, and return the path of the file."""
    path = Path(folder, f"{name}.safetensors")
    save_file({key: tensor.contiguous() for key, tensor in random_sam(name).state_dict().items()}, path)
    return str(path)


def released_sam(name: str) -> Sam:
    """Return `micro` or `litemedsam` with the weights that come with their packages."""
    with TemporaryDirectory() as folder:
        return load_backbone(released_weights(name, folder)).requires_grad_(False).to(device())


def released_weights(name: str, folder: str) -> str:
    """Write the manifest of `micro` or `litemedsam` into a folder, and return its path."""
    manifest = f"{folder}/manifest.json"
    weights(manifest=manifest, backbone=backbone_choice(name), folder=folder)
    return manifest


def to_openvino(encoder: nn.Module, precision: Precision) -> OpenVinoEncoder:
    """Return an encoder in OpenVINO's form."""
    return OpenVinoEncoder(convert(encoder), int(encoder.img_size), precision)  # type: ignore[arg-type]


def generated_cells(side: int, seed: int = UNSEEN_SEED) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return a generated image (side, side) and the exact boxes (N, 4), XYXY half-open in pixels, of its cells."""
    source = draw_slice(seed, side)
    boxes = [box for _, *box, area in object_boxes(source.cells) if area >= MINIMUM_AREA]
    return source.image.astype(np.uint8), np.array(boxes, np.float32)


def iterated(predictor: Predictor, views: Sequence[TileFeatures], boxes: NDArray[np.float32]) -> list[list[Prediction]]:
    """Return the predictions of each box (N, 4), the first and all iterations. Each box has a view of its tile."""

    def predict(numbers: Sequence[int], boxes: NDArray[np.float32]) -> tuple[list[Mask], NDArray[np.float32]]:
        return predictor.predict([views[number] for number in numbers], boxes)

    return iterate(predict, first_predictions(predict, boxes), CONFIG.refine)


def evenly_chosen(boxes: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return `count` of the boxes (N, 4), evenly spaced by their numbers."""
    subset: NDArray[np.float32] = boxes[np.linspace(0, len(boxes) - 1, count).astype(int)]
    return subset
