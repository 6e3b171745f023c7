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

        The steps are those of `Sam.postprocess_masks`: enlarge to the network's input, cut off its padding, resize to
        the tile. The first, which enlarges most, is done where the masks live; what lies beyond is no object anyway.
        Where the last would halve what the first enlarged by four, both together enlarge by two, but for rounding.
        """
        factor = self.image_size // logits.shape[-1]
        halved = factor == 4 and self.input_shape == (2 * self.tile_shape[0], 2 * self.tile_shape[1])
        (h, w), factor = (self.tile_shape, 2) if halved else (self.input_shape, factor)
        rows, columns = _living(logits)
        living = _resize(
            logits[:, rows, columns], (factor * (rows.stop - rows.start), factor * (columns.stop - columns.start))
        )
        ends = (columns.start, logits.shape[2] - columns.stop, rows.start, logits.shape[1] - rows.stop)
        margins = [factor * end for end in ends]  # of whole cells, so that no sample moves
        if (h, w) == self.tile_shape:
            return F.pad(living > 0, margins)[:, :h, :w].contiguous()  # or the padding would be kept with each mask
        return _resize(F.pad(living, margins, value=-1.0)[:, :h, :w], self.tile_shape) > 0


def _resize(logits: Tensor, shape: tuple[int, int]) -> Tensor:
    return F.interpolate(logits[:, None], shape, mode="bilinear", align_corners=False)[:, 0]


def _living(logits: Tensor) -> tuple[slice, slice]:
    """The rows and columns where any of some masks is, and two more on either side, that interpolation looks at.

    All of them, where there is no mask, and on a GPU, which would have to be waited for.
    """
    side = logits.shape[1]
    if logits.is_cuda:
        return slice(0, side), slice(0, side)
    present = (logits > 0).any(dim=0)
    lines = torch.stack([present.any(dim=1), present.any(dim=0)]).byte()  # 2 g
    ends = torch.stack([lines.argmax(dim=1), lines.flip(1).argmax(dim=1)]).tolist()
    rows, columns = (slice(max(0, first - 2), min(side, side - last + 2)) for first, last in zip(*ends, strict=True))
    return rows, columns
