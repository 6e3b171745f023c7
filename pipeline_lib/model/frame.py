"""Where a tile lies in the network's input: boxes there, masks back."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Frame:
    """Where a tile lies in the network's square input: scaled to its longest side, zero-padded below and to the right.

    A tile at the edge of a slice can be smaller than the full one; it is scaled like a full one and padded the more.
    """

    tile_shape: tuple[int, int]  # h, w of a full tile, pixels
    image_size: int  # side of the network's input, pixels

    @property
    def input_shape(self) -> tuple[int, int]:
        """Height and width of a full tile within the network's input, in pixels, rounded as SAM rounds."""
        scale = self.image_size / max(self.tile_shape)
        h, w = (int(side * scale + 0.5) for side in self.tile_shape)  # `ResizeLongestSide.get_preprocess_shape`
        return h, w

    def grid_shape(self, grid: int) -> tuple[int, int]:
        """Height and width of a full tile on a grid of so many cells squared that spans the network's input."""
        h, w = (round(side * grid / self.image_size) for side in self.input_shape)
        return h, w

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the network's input per pixel of the tile, y and x: alike but for the rounding."""
        (h, w), (tile_h, tile_w) = self.input_shape, self.tile_shape
        return h / tile_h, w / tile_w

    def to_network(self, boxes: NDArray[np.number] | Tensor) -> Tensor:
        """Boxes (N, 4) XYXY of the tile, in pixels of the network's input, float32."""
        y, x = self.scale
        return (torch.as_tensor(boxes, dtype=torch.float64) * torch.tensor([x, y, x, y], dtype=torch.float64)).float()

    def mask(self, logits: Tensor) -> Tensor:
        """Binary masks (N, h, w) of a full tile from low-resolution logits (N, 4h, 4w of the embedding).

        As `Sam.postprocess_masks`: enlarge to the network's input, cut off its padding, resize to the tile.
        """
        (h, w), (tile_h, tile_w) = self.input_shape, self.tile_shape
        if (h, w) == (2 * tile_h, 2 * tile_w) and self.image_size == 4 * logits.shape[-1]:
            # four times as large and then half of it is twice as large: 0.5 in place of 2.1 CPU ms a mask, of 12 for a
            # box in bfloat16 (vit_b, tiles of 512 pixels; AMD EPYC, AVX-512; `python -m benchmarks.spots halved`)
            side = self.image_size // 2
            return _resize(logits, (side, side))[:, :tile_h, :tile_w] > 0
        enlarged = _resize(logits, (self.image_size, self.image_size))[:, :h, :w]
        return (enlarged if (h, w) == self.tile_shape else _resize(enlarged, self.tile_shape)) > 0


def _resize(logits: Tensor, shape: tuple[int, int]) -> Tensor:
    return F.interpolate(logits[:, None], shape, mode="bilinear", align_corners=False)[:, 0]
