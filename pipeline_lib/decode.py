"""Boxes of one image to masks at the image's own resolution: what training, validation and inference share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.lean import ImageSide
from pipeline_lib.masks import Mask
from pipeline_lib.sam import BoxModel, Frame, device

Boxes = NDArray[np.float32]  # (N, 4), XYXY half-open, pixels of the image
Predict = Callable[[Boxes], tuple[Mask, NDArray[np.float32]]]  # to masks (N, h, w) and predicted IoU (N)

# Bytes of image features per call of the network, by kind of device. On a CPU, with fewer the tokens' small products
# take a larger share, and with more the system maps memory anew for tensors that it gave back a moment ago;
# `benchmarks/README.md` has the times, and 8 MiB are within a tenth of the best on either backbone in either precision.
FEATURES = {"cpu": 2**23, "cuda": 2**27}


def autocast(precision: str) -> torch.autocast:
    """Matrix products in bfloat16 where `precision` says so; weights, sums and the masks' upsampling stay float32."""
    return torch.autocast(device().type, torch.bfloat16, enabled=precision == "bfloat16")


def forward(model: BoxModel, frame: Frame, image: ImageSide, boxes: Boxes) -> tuple[Tensor, Tensor]:
    """Low-resolution logits (N, g, g) and predicted IoU (N), float32, of boxes (N, 4) XYXY in pixels of the image."""
    logits, predicted_iou = model(image, frame.to_network(boxes).to(image.features.device))
    return logits.float(), predicted_iou.float()


@dataclass(frozen=True)
class Decoder:
    """A model that is done learning, in the frame of a store's tiles."""

    model: BoxModel
    frame: Frame
    precision: str

    @torch.inference_mode()
    def of_image(self, embedding: Tensor, shape: tuple[int, int]) -> Predict:
        """The function from boxes to masks of one image: its embedding is (1, 256, g, g), its shape (h, w)."""
        with autocast(self.precision):
            return partial(self._predict, self.model.image_side(embedding), shape)

    @torch.inference_mode()
    def _predict(self, image: ImageSide, shape: tuple[int, int], boxes: Boxes) -> tuple[Mask, NDArray[np.float32]]:
        masks, ious = np.empty((len(boxes), *shape), bool), np.empty(len(boxes), np.float32)
        chunk = self._chunk(image)
        for start in range(0, len(boxes), chunk):
            part = slice(start, start + chunk)
            with autocast(self.precision):
                logits, predicted_iou = forward(self.model, self.frame, image, boxes[part])
            masks[part] = self.frame.mask(logits, shape).cpu().numpy()
            ious[part] = predicted_iou.cpu().numpy()
        return masks, ious

    def _chunk(self, image: ImageSide) -> int:
        """Boxes per call of the network: the same on every machine of a kind, as masks may depend on it by a pixel."""
        width = 2 if self.precision == "bfloat16" else 4
        return max(1, FEATURES[image.features.device.type] // (image.features.numel() * width))
