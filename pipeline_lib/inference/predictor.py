"""Predict masks from boxes at the resolution of the tiles, for training, validation and inference."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.data.boxes import Boxes, grown
from pipeline_lib.data.masks import Mask
from pipeline_lib.model.box_model import BoxModel
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.mask_decoder import ImageFeatures
from pipeline_lib.runtime.device import Precision, autocast, device

# Boxes per call of the network, by kind of device. It is fixed because masks can depend on it by a pixel. On a CPU,
# twice as many are hardly faster and take twice the memory. On an H200, four times as many take a fifth less time, and
# 10 GB instead of 3 (`benchmarks/README.md`).
CHUNK = {"cpu": 16, "cuda": 64}


def forward(
    model: BoxModel, frame: Frame, tiles: Sequence[ImageFeatures], boxes: Boxes, mask_extent: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return low-resolution logits (N, 4g, 4g) and predicted IoU (N), float32, for boxes (N, 4).

    Args:
        model: network to run; gradients are kept.
        frame: place of the tiles in the network's input.
        tiles: features of the tile of each box; boxes of a tile are neighbours.
        boxes: (N, 4), XYXY in pixels of their tile.
        mask_extent: as in `Predictor`. Outside this extent, logits are not computed: they are `OUTSIDE`.
    """
    device_of_tiles, (rows, _) = tiles[0].features.device, tiles[0].grid
    cells = None if mask_extent is None else frame.cells(grown(boxes, mask_extent), rows)
    logits, predicted_iou = model(tiles, frame.to_network(boxes).to(device_of_tiles), cells)
    return logits.float(), predicted_iou.float()


def masks_of(frame: Frame, logits: Tensor, boxes: Boxes, mask_extent: float | None) -> Mask:
    """Return masks (N, h, w) of a full tile from logits (N, 4g, 4g) of boxes (N, 4), cut at their `mask_extent`."""
    if mask_extent is None:
        masks: Mask = frame.mask(logits).cpu().numpy()
        return masks
    return frame.masks_within(logits, grown(boxes, mask_extent))


@dataclass(frozen=True)
class TileFeatures:
    """The input of the decoder for a tile."""

    features: ImageFeatures
    shape: tuple[int, int]  # height and width of the tile, pixels


@dataclass(frozen=True)
class Predictor:
    """A trained model that predicts masks on tiles of one size."""

    model: BoxModel
    frame: Frame
    precision: Precision
    mask_extent: float | None = None  # masks are cut at their box times this factor; None: no limit

    @torch.inference_mode()
    def views(self, embeddings: Iterable[Tensor], shapes: Iterable[tuple[int, int]]) -> list[TileFeatures]:
        """Compute what all boxes of a tile share, from embeddings (1, 256, g, g) on any device, and shapes (h, w)."""
        with autocast(self.precision):
            features = self.model.image_features(embedding.to(device()) for embedding in embeddings)
        return [TileFeatures(*pair) for pair in zip(features, shapes, strict=True)]

    @torch.inference_mode()
    def predict(self, views: Sequence[TileFeatures], boxes: Boxes) -> tuple[list[Mask], NDArray[np.float32]]:
        """Return the mask (h, w) bool of each box, and the predicted IoU (N) float32.

        Args:
            views: tile of each box, at least one, from one call of `views`. Boxes of a tile are neighbours.
            boxes: (N, 4), XYXY in pixels of their tile.
        """
        chunk = CHUNK[device().type]
        masks: list[Mask] = []
        ious: list[NDArray[np.float32]] = []
        for start in range(0, len(boxes), chunk):
            part, prompts = views[start : start + chunk], boxes[start : start + chunk]
            with autocast(self.precision):
                features = [view.features for view in part]
                logits, predicted_iou = forward(self.model, self.frame, features, prompts, self.mask_extent)
            tiles = masks_of(self.frame, logits, prompts, self.mask_extent)
            masks += [tile[: view.shape[0], : view.shape[1]] for tile, view in zip(tiles, part, strict=True)]
            ious.append(predicted_iou.cpu().numpy())
        return masks, np.concatenate(ious)
