"""The model from embedding and boxes to masks: SAM's prompt encoder and decoder, deviation token, image adapter."""

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
    """Learned vectors behind a linear layer: additional prompt tokens, which are the same for every box."""

    def __init__(self, shape: Token, prompt_width: int) -> None:
        super().__init__()
        # Small at first, because the decoder was trained without them.
        self.vectors = nn.Parameter(0.02 * torch.randn(shape.count, shape.width))
        self.project = nn.Linear(shape.width, prompt_width)

    def forward(self) -> Tensor:
        """Return the tokens, (count, prompt width)."""
        tokens: Tensor = self.project(self.vectors)
        return tokens


class ImageAdapter(nn.Module):
    """Two trained convolutions whose output is added to the frozen encoder's embedding.

    Its input is the embedding, so images need not be encoded again. It runs once for all boxes of an image. After the
    residual adapters of Rebuffi et al., 2017 (https://arxiv.org/abs/1705.08045).
    """

    def __init__(self, shape: Adapter, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, shape.width, 3, padding=1)
        self.second = nn.Conv2d(shape.width, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)  # so that training begins with the encoder's own embedding
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]  # it is not None

    def forward(self, embedding: Tensor) -> Tensor:
        """Return the adapted embedding, (1, channels, h, w) float32 as `embedding`."""
        adapted: Tensor = embedding + self.second(F.gelu(self.first(embedding)))
        return adapted


class BoxModel(nn.Module):
    """SAM's prompt encoder and mask decoder, with a deviation token and an image adapter if the model has them.

    The mask decoder puts its own tokens first and reads only their results, so it takes any number of prompt tokens.
    Parameters and their names are segment_anything's; `mask_decoder.py` has the forward.
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
        """Compute what all boxes of an image share, from the embedding (1, 256, h, w) float32 of each image."""
        shared = positions(self.prompt_encoder, self.mask_decoder)
        adapted = embeddings if self.adapter is None else map(self.adapter, embeddings)
        return [image_features(self.prompt_encoder, self.mask_decoder, shared, embedding) for embedding in adapted]

    def forward(
        self, images: Sequence[ImageFeatures], boxes: Tensor, cells: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return one mask for each box.

        Args:
            images: features of one call of `image_features`, one for each box; boxes of an image are neighbours.
            boxes: (N, 4) float32, at least one, XYXY in pixels of the network's input (`Frame.to_network`).
            cells: (N, h, w) bool on the CPU, the cells whose logits to compute (`Frame.cells`); None: all.

        Returns:
            Low-resolution logits (N, 4h, 4w), `OUTSIDE` in cells that are not computed, and predicted IoU (N).
        """
        with torch.autocast(boxes.device.type, enabled=False):  # bfloat16 would round a coordinate to half a pixel
            prompts, _ = self.prompt_encoder(points=None, boxes=boxes, masks=None)  # N 2 256
        if self.token is not None:
            prompts = torch.cat([prompts, self.token().expand(len(boxes), -1, -1)], dim=1)  # N 2+count 256
        return decode(self.mask_decoder, images, prompts, cells)

    def parts(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters of each part that can be trained. A part that the model lacks has none.

        Corner embeddings are the two vectors that SAM adds to the positional encodings of a box's corners.
        """
        corners = self.prompt_encoder.point_embeddings[2:4]
        return {
            "mask_decoder": list(self.mask_decoder.parameters()),
            "corner_embeddings": list(corners.parameters()),
            "deviation_token": [] if self.token is None else list(self.token.parameters()),
            "image_adapter": [] if self.adapter is None else list(self.adapter.parameters()),
        }

    def set_trainable(self, model_config: ModelConfig) -> list[nn.Parameter]:
        """Freeze all but the parts in `model_config.trains`, and return the parameters of these parts.

        Raises:
            TrainingError: the model lacks one of the parts.
        """
        self.requires_grad_(False)
        parts = self.parts()
        if absent := [part for part in model_config.trains if not parts[part]]:
            raise TrainingError(
                f"the model has no {' and no '.join(absent)} to train; remove it from the model's `trains`, or set its "
                "shape in the model's row"
            )
        trained = [parameter for part in model_config.trains for parameter in parts[part]]
        for parameter in trained:
            parameter.requires_grad_(True)
        return trained


def box_model(sam: Sam, model_config: ModelConfig) -> BoxModel:
    """Build a model on a backbone's prompt encoder and mask decoder, which are not copied.

    If `model_config` has a token or an adapter, it gets new random weights.
    """
    width = sam.prompt_encoder.embed_dim
    token = None if model_config.token is None else DeviationToken(model_config.token, width)
    adapter = None if model_config.adapter is None else ImageAdapter(model_config.adapter, width)
    return BoxModel(sam.prompt_encoder, sam.mask_decoder, token, adapter)


def load_untrained(manifest: str | Path, model_config: ModelConfig, start: str | Path | None = None) -> BoxModel:
    """Return a model before its training, on the CPU, without loading the image encoder.

    Args:
        manifest: manifest of the backbone that the model is built on.
        model_config: shape of the model. A new token and a new adapter are random.
        start: file of a model of the same shape; the new model takes all of its weights.

    Raises:
        WeightsError: the checkpoint has changed since the manifest was written, or the model at `start` has another
            shape.
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
    """Write a model as safetensors. The header names its backbone, its shape and the settings of its training.

    Args:
        model: model to write.
        path: file to write.
        backbone: name of the backbone.
        model_config: shape of the model.
        training: settings and inputs of the training, as values of JSON.
    """
    write_model(path, model.state_dict(), ModelHeader(backbone, model_config.plain(), training))


def write_model(path: str | Path, tensors: Mapping[str, Tensor], header: ModelHeader) -> None:
    """Write a model's file: its parameters by name, and its header."""
    tensors = {key: value.cpu().contiguous() for key, value in tensors.items()}
    # One entry, because safetensors writes several entries in an order that differs from run to run.
    metadata = {ENTRY: json.dumps(asdict(header))}
    with atomic(path) as partial:
        partial.write_bytes(
            save(tensors, metadata)
        )  # `save_file` ignores the umask: only the owner could read the file


def load_model(path: str | Path) -> BoxModel:
    """Load a model that `save_model` wrote, in evaluation mode on the CPU, without the image encoder.

    Raises:
        WeightsError: the file is not such a model.
    """
    tensors = read_tensors(path)
    header = ModelHeader.read(path)
    with on_meta_device():
        model = box_model(build(header.backbone), parsed(ModelConfig, header.model_config, str(path)))
    load_weights(model, tensors, path)
    return model.eval()
