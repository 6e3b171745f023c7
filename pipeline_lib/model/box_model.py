"""Embedding and boxes to masks: SAM's prompt encoder and mask decoder, the deviation token and the image adapter."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline_lib.data.model_header import ENTRY, ModelHeader
from pipeline_lib.errors import TrainingError
from pipeline_lib.model.backbones import build, load_parts, on_meta_device, shapes_of
from pipeline_lib.model.checkpoints import load_weights, read_tensors
from pipeline_lib.model.mask_decoder import ImageFeatures, decode, image_features, positions
from pipeline_lib.model.upstream import MaskDecoder, PromptEncoder, Sam
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.messages import parsed
from pipeline_lib.settings.model import Adapter, ModelConfig, Token


class DeviationToken(nn.Module):
    """Learned vectors behind a linear layer: more prompt tokens, the same for every box."""

    def __init__(self, shape: Token, prompt_width: int) -> None:
        super().__init__()
        # small: the decoder was trained without them
        self.vectors = nn.Parameter(0.02 * torch.randn(shape.count, shape.width))
        self.project = nn.Linear(shape.width, prompt_width)

    def forward(self) -> Tensor:
        """The tokens, (count, prompt width)."""
        tokens: Tensor = self.project(self.vectors)
        return tokens


class ImageAdapter(nn.Module):
    """What is added to an image's embedding, learned from it by two convolutions.

    After the residual adapters of Rebuffi et al., 2017 (https://arxiv.org/abs/1705.08045).

    It sees the frozen encoder's embedding alone, so images need not be encoded again, and runs once for all boxes of an
    image.
    """

    def __init__(self, shape: Adapter, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, shape.width, 3, padding=1)
        self.second = nn.Conv2d(shape.width, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # training begins with the encoder's own embedding
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]  # there is one

    def forward(self, embedding: Tensor) -> Tensor:
        """The adapted embedding, (1, channels, h, w) float32 as the given one."""
        adapted: Tensor = embedding + self.second(F.gelu(self.first(embedding)))
        return adapted


class BoxModel(nn.Module):
    """Embedding and boxes to masks: SAM's prompt encoder and mask decoder, perhaps a deviation token, an image adapter.

    The mask decoder puts its own tokens first and reads only those, so it takes any number of prompt tokens. Weights
    and names are stock's; the forward is that of `mask_decoder.py`.
    """

    def __init__(
        self,
        prompt_encoder: PromptEncoder,
        mask_decoder: MaskDecoder,
        token: DeviationToken | None,
        adapter: ImageAdapter | None = None,
    ) -> None:
        super().__init__()
        self.prompt_encoder = prompt_encoder
        self.mask_decoder = mask_decoder
        self.token = token
        self.adapter = adapter

    def image_features(self, embeddings: Iterable[Tensor]) -> list[ImageFeatures]:
        """Once for many boxes: what of each image's embedding (1, 256, h, w) float32 all of its boxes share."""
        shared = positions(self.prompt_encoder, self.mask_decoder)
        adapted = embeddings if self.adapter is None else map(self.adapter, embeddings)
        return [image_features(self.prompt_encoder, self.mask_decoder, shared, embedding) for embedding in adapted]

    def forward(
        self, images: Sequence[ImageFeatures], boxes: Tensor, cells: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One mask for each box.

        Args:
            images: of one call of `image_features`, one for each box; boxes of an image are neighbours.
            boxes: (N, 4) float32, at least one, XYXY in pixels of the network's input (`Frame.to_network`).
            cells: (N, h, w) bool on the CPU, where masks are wanted (`Frame.cells`); None: everywhere.

        Returns:
            Low-resolution logits (N, 4h, 4w) and the mask's predicted IoU (N).
        """
        with torch.autocast(boxes.device.type, enabled=False):  # bfloat16 would round a coordinate to half a pixel
            prompts, _ = self.prompt_encoder(points=None, boxes=boxes, masks=None)  # N 2 256
        if self.token is not None:
            prompts = torch.cat([prompts, self.token().expand(len(boxes), -1, -1)], dim=1)  # N 2+count 256
        return decode(self.mask_decoder, images, prompts, cells)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """What can be trained; the corner embeddings are those that SAM adds to a box's two corners."""
        corners = self.prompt_encoder.point_embeddings[2:4]
        return {
            "mask_decoder": list(self.mask_decoder.parameters()),
            "corner_embeddings": list(corners.parameters()),
            "deviation_token": [] if self.token is None else list(self.token.parameters()),
            "image_adapter": [] if self.adapter is None else list(self.adapter.parameters()),
        }

    def set_trainable(self, model_config: ModelConfig) -> list[nn.Parameter]:
        """Freeze all but the parts that are trained, and return their parameters.

        Raises:
            TrainingError: the model lacks one of the parts.
        """
        self.requires_grad_(False)
        parts = self.parts()
        if absent := [part for part in model_config.trains if not parts[part]]:
            raise TrainingError(f"the model has no {' and no '.join(absent)} to train")
        trained = [parameter for part in model_config.trains for parameter in parts[part]]
        for parameter in trained:
            parameter.requires_grad_(True)
        return trained


def box_model(sam: Sam, model_config: ModelConfig) -> BoxModel:
    """The backbone's own prompt encoder and mask decoder, not copies, with a new token and adapter if asked for."""
    width = sam.prompt_encoder.embed_dim
    token = None if model_config.token is None else DeviationToken(model_config.token, width)
    adapter = None if model_config.adapter is None else ImageAdapter(model_config.adapter, width)
    return BoxModel(sam.prompt_encoder, sam.mask_decoder, token, adapter)


def load_untrained(manifest: str | Path, model_config: ModelConfig, start: str | Path | None = None) -> BoxModel:
    """Return a model as its training begins, on the CPU; the encoder takes no memory.

    Args:
        manifest: of the backbone, whose prompt encoder and mask decoder the model has.
        model_config: shape of the model. A new token and a new adapter are random.
        start: file of a model of the same shape, whose weights it has instead.

    Raises:
        WeightsError: the checkpoint is no longer the file that the manifest was written for, or the model at `start`
            has another shape.
    """
    sam, backbone = shapes_of(manifest)
    load_parts(sam, backbone, "prompt_encoder", "mask_decoder")
    model = box_model(sam, model_config)
    if start:
        load_weights(model, read_tensors(start), start)
    return model


def save_model(
    model: BoxModel, path: str | Path, backbone: str, model_config: ModelConfig, training: dict[str, Any]
) -> None:
    """Write the model as safetensors whose header names its backbone, its shape and what decided its training.

    `training` holds values that JSON can hold.
    """
    write_model(path, model.state_dict(), ModelHeader(backbone, model_config.plain(), training))


def write_model(path: str | Path, tensors: Mapping[str, Tensor], header: ModelHeader) -> None:
    """Write a model's file: its parameters by name, and its header."""
    tensors = {key: value.cpu().contiguous() for key, value in tensors.items()}
    # one entry, because safetensors writes several in an order that differs from run to run
    metadata = {ENTRY: json.dumps(asdict(header))}
    with atomic(path) as partial:
        partial.write_bytes(save(tensors, metadata))  # `save_file` gives the file to nobody else, whatever the umask


def load_model(path: str | Path) -> BoxModel:
    """The model that `save_model` wrote, in evaluation mode on the CPU; the image encoder is not needed and not loaded.

    Raises:
        WeightsError: the file is not such a model.
    """
    tensors = read_tensors(path)
    header = ModelHeader.read(path)
    with on_meta_device():
        model = box_model(build(header.backbone), parsed(ModelConfig, header.model_config, str(path)))
    load_weights(model, tensors, path)
    return model.eval()
