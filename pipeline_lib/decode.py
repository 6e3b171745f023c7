"""Boxes of one image to masks at the image's own resolution: what validation and inference share."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.masks import Mask
from pipeline_lib.sam import BoxModel, Frame, device


def autocast(precision: str) -> torch.autocast:
    """Matrix products in bfloat16 where `precision` says so; weights, sums and the masks' upsampling stay float32."""
    return torch.autocast(device().type, torch.bfloat16, enabled=precision == "bfloat16")


def forward(model: BoxModel, frame: Frame, embedding: Tensor, boxes: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Low-resolution logits (N, g, g) and predicted IoU (N), float32, of boxes (N, 4) XYXY in pixels of the image."""
    logits, predicted_iou = model(embedding, frame.to_network(boxes).to(embedding.device))
    return logits.float(), predicted_iou.float()


@dataclass(frozen=True)
class Decoder:
    """A model that is done learning, in the frame of a store's tiles."""

    model: BoxModel
    frame: Frame
    chunk: int  # boxes per call of the network, which bounds its memory
    precision: str

    @torch.inference_mode()
    def __call__(
        self, embedding: Tensor, shape: tuple[int, int], boxes: NDArray[np.float32]
    ) -> tuple[Mask, NDArray[np.float32]]:
        """Masks (N, h, w) and predicted IoU (N) of boxes (N, 4) XYXY in pixels of the image; `shape` is its (h, w)."""
        masks, ious = np.empty((len(boxes), *shape), bool), np.empty(len(boxes), np.float32)
        for start in range(0, len(boxes), self.chunk):
            part = slice(start, start + self.chunk)
            with autocast(self.precision):
                logits, predicted_iou = forward(self.model, self.frame, embedding, boxes[part])
            masks[part] = self.frame.mask(logits, shape).cpu().numpy()
            ious[part] = predicted_iou.cpu().numpy()
        return masks, ious
