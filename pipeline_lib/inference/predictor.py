"""Boxes to masks at the tiles' own resolution: what training, validation and inference share."""

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

# Boxes per call of the network, by kind of device: the same on every machine of a kind, as masks may depend on it by a
# pixel. On a CPU twice as many are hardly faster (`benchmarks/README.md`) and take twice the memory. On an H200 four
# times as many take a fifth less time and 10 in place of 3 GB (`benchmarks/README.md`).
CHUNK = {"cpu": 16, "cuda": 64}


def forward(
    model: BoxModel, frame: Frame, tiles: Sequence[ImageFeatures], boxes: Boxes, mask_extent: float | None = None
) -> tuple[Tensor, Tensor]:
    """Return low-resolution logits (N, g, g) and predicted IoU (N), float32, for boxes (N, 4), one for each tile.

    With a `mask_extent`, as in `Predictor`, logits are computed only within that extent; elsewhere they are `OUTSIDE`.
    """
    where, (rows, _) = tiles[0].features.device, tiles[0].grid
    cells = None if mask_extent is None else frame.cells(grown(boxes, mask_extent), rows)
    logits, predicted_iou = model(tiles, frame.to_network(boxes).to(where), cells)
    return logits.float(), predicted_iou.float()


def masks_of(frame: Frame, logits: Tensor, boxes: Boxes, mask_extent: float | None) -> Mask:
    """Return masks (N, h, w) of a full tile from the logits (N, g, g) of boxes (N, 4), cut to their mask extent."""
    if mask_extent is None:
        masks: Mask = frame.mask(logits).cpu().numpy()
        return masks
    return frame.masks_within(logits, grown(boxes, mask_extent))


@dataclass(frozen=True)
class TileFeatures:
    """A tile as a decoder sees it."""

    features: ImageFeatures
    shape: tuple[int, int]  # h, w, pixels


@dataclass(frozen=True)
class Predictor:
    """A trained model, in the frame of a store's tiles."""

    model: BoxModel
    frame: Frame
    precision: Precision
    mask_extent: float | None = None  # masks end at a box so many times as large as the prompted one; None: no limit

    @torch.inference_mode()
    def views(self, embeddings: Iterable[Tensor], shapes: Iterable[tuple[int, int]]) -> list[TileFeatures]:
        """Compute what all boxes of a tile share, from embeddings (1, 256, g, g), on any device, and shapes (h, w)."""
        with autocast(self.precision):
            features = self.model.image_features(embedding.to(device()) for embedding in embeddings)
        return [TileFeatures(*pair) for pair in zip(features, shapes, strict=True)]

    @torch.inference_mode()
    def predict(self, views: Sequence[TileFeatures], boxes: Boxes) -> tuple[list[Mask], NDArray[np.float32]]:
        """Return the mask (h, w) of each box, and their predicted IoU (N).

        Args:
            views: of one call of `views`, one for each box, at least one; boxes of a tile are neighbours.
            boxes: (N, 4).
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
