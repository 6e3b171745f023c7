"""Boxes to masks at the tiles' own resolution: what training, validation and inference share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.data.boxes import grown
from pipeline_lib.data.masks import Mask
from pipeline_lib.model.box_model import BoxModel
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.mask_decoder import ImageFeatures
from pipeline_lib.runtime.device import Precision, autocast, device

Boxes = NDArray[np.float32]  # (N, 4), XYXY half-open, pixels of the tile

# Boxes per call of the network, by kind of device: the same on every machine of a kind, as masks may depend on it by a
# pixel. On a CPU twice as many are hardly faster (`benchmarks/README.md`) and take twice the memory. On an H200 four
# times as many take a fifth less time and 10 in place of 3 GB (`benchmarks/README.md`).
CHUNK = {"cpu": 16, "cuda": 64}


def forward(
    model: BoxModel, frame: Frame, tiles: Sequence[ImageFeatures], boxes: Boxes, window: float | None = None
) -> tuple[Tensor, Tensor]:
    """Low-resolution logits (N, g, g) and predicted IoU (N), float32, of boxes (N, 4), one of each of the tiles.

    With a `window`, as of `Predictor`, the logits are made within it alone, and are `OUTSIDE` elsewhere.
    """
    where, (rows, _) = tiles[0].features.device, tiles[0].grid
    cells = None if window is None else frame.cells(grown(boxes, window), rows)
    logits, predicted_iou = model(tiles, frame.to_network(boxes).to(where), cells)
    return logits.float(), predicted_iou.float()


def masks_of(frame: Frame, logits: Tensor, boxes: Boxes, window: float | None) -> Mask:
    """Masks (N, h, w) of a full tile from the logits (N, g, g) of boxes (N, 4), cut to a window."""
    if window is None:
        masks: Mask = frame.mask(logits).cpu().numpy()
        return masks
    return frame.masks_within(logits, grown(boxes, window))


@dataclass(frozen=True)
class TileFeatures:
    """A tile as a decoder sees it."""

    side: ImageFeatures
    shape: tuple[int, int]  # h, w, pixels


@dataclass(frozen=True)
class Predictor:
    """A model that is done learning, in the frame of a store's tiles."""

    model: BoxModel
    frame: Frame
    precision: Precision
    window: float | None = None  # sides of the part of a mask that counts, in sides of its box; None: all of it

    @torch.inference_mode()
    def views(self, embeddings: Iterable[Tensor], shapes: Iterable[tuple[int, int]]) -> list[TileFeatures]:
        """Of some tiles their embeddings (1, 256, g, g), on any device, and shapes (h, w): all that boxes share."""
        with autocast(self.precision):
            sides = self.model.image_features(embedding.to(device()) for embedding in embeddings)
        return [TileFeatures(side, shape) for side, shape in zip(sides, shapes, strict=True)]

    @torch.inference_mode()
    def predict(self, views: Sequence[TileFeatures], boxes: Boxes) -> tuple[list[Mask], NDArray[np.float32]]:
        """The mask (h, w) and the predicted IoU (N) of each box.

        Args:
            views: of one call of `views`, one for each box, at least one; boxes of a tile are neighbours.
            boxes: (N, 4).
        """
        chunk = CHUNK[device().type]
        masks: list[Mask] = []
        ious: list[NDArray[np.float32]] = []
        for start in range(0, len(boxes), chunk):
            some, prompts = views[start : start + chunk], boxes[start : start + chunk]
            with autocast(self.precision):
                sides = [view.side for view in some]
                logits, predicted_iou = forward(self.model, self.frame, sides, prompts, self.window)
            tiles = masks_of(self.frame, logits, prompts, self.window)
            masks += [tile[: view.shape[0], : view.shape[1]] for tile, view in zip(tiles, some, strict=True)]
            ious.append(predicted_iou.cpu().numpy())
        return masks, np.concatenate(ious)
