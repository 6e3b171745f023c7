"""Convert boxes from a tile to the network's input, and masks back to the tile."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

HALO = 0.5  # cells around a box: two pixels of the low resolution


@dataclass(frozen=True)
class Frame:
    """The place of a tile in the network's square input: scaled to its side, zero-padded at the bottom and the right.

    A tile at the edge of a slice can be smaller than a full tile. It is scaled by the same factor and padded more.
    """

    tile_shape: tuple[int, int]  # h, w of a full tile, pixels
    image_size: int  # side of the network's input, pixels

    @property
    def input_shape(self) -> tuple[int, int]:
        """Height and width of a full tile in the network's input, in pixels, rounded as SAM rounds."""
        scale = self.image_size / max(self.tile_shape)
        h, w = (int(side * scale + 0.5) for side in self.tile_shape)  # `ResizeLongestSide.get_preprocess_shape`
        return h, w

    def grid_shape(self, grid: int) -> tuple[int, int]:
        """Return height and width of a full tile, in cells, on a grid of grid × grid cells over the network's input."""
        h, w = (round(side * grid / self.image_size) for side in self.input_shape)
        return h, w

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the network's input per pixel of the tile, y and x. They differ only by rounding."""
        (h, w), (tile_h, tile_w) = self.input_shape, self.tile_shape
        return h / tile_h, w / tile_w

    def to_network(self, boxes: NDArray[np.number] | Tensor) -> Tensor:
        """Convert boxes (N, 4) XYXY from pixels of the tile to pixels of the network's input, float32."""
        y, x = self.scale
        return (torch.as_tensor(boxes, dtype=torch.float64) * torch.tensor([x, y, x, y], dtype=torch.float64)).float()

    def cells(self, boxes: NDArray[np.number], grid: int) -> Tensor:
        """Return the cells (N, grid, grid) bool of an embedding that masks within boxes (N, 4) of the tile depend on.

        Includes a halo, because enlarging a low-resolution mask mixes each pixel with its neighbours.
        """
        side = self.image_size / grid
        low, high = (self.to_network(boxes) / side).unflatten(1, (2, 2)).unbind(1)  # N 2, x and y
        at = torch.arange(grid)
        inside = (at + 1 > low[..., None] - HALO) & (at < high[..., None] + HALO)  # N 2 grid
        cells: Tensor = inside[:, 1, :, None] & inside[:, 0, None, :]
        return cells

    def pixels(self, boxes: Tensor) -> Tensor:
        """Return the pixels (N, h, w) bool of a full tile whose centres lie in boxes (N, 4) of the tile."""
        x0, y0, x1, y1 = boxes.T[..., None]
        y, x = (torch.arange(side, device=boxes.device) + 0.5 for side in self.tile_shape)
        inside: Tensor = ((y >= y0) & (y < y1))[:, :, None] & ((x >= x0) & (x < x1))[:, None]
        return inside

    def mask(self, logits: Tensor) -> Tensor:
        """Return binary masks (N, h, w) of a full tile from low-resolution logits (N, 4g, 4g).

        As `Sam.postprocess_masks`: enlarge to the network's input, cut off its padding, resize to the tile.
        """
        (h, w), (tile_h, tile_w) = self.input_shape, self.tile_shape
        if (h, w) == (2 * tile_h, 2 * tile_w) and self.image_size == 4 * logits.shape[-1]:
            # Enlarging by 4 and then halving is the same as enlarging by 2, which is cheaper.
            side = self.image_size // 2
            return _resize(logits, (side, side))[:, :tile_h, :tile_w] > 0
        enlarged = _resize(logits, (self.image_size, self.image_size))[:, :h, :w]
        return (enlarged if (h, w) == self.tile_shape else _resize(enlarged, self.tile_shape)) > 0

    def masks_within(self, logits: Tensor, boxes: NDArray[np.number]) -> NDArray[np.bool_]:
        """Return the masks (N, h, w) of `mask`, cut to the pixels whose centres lie in boxes (N, 4) of the tile.

        Each mask has its own box. On a CPU, only pixels in the box are computed.
        """
        if logits.is_cuda:  # box by box, the processor would wait for the GPU each time
            inside = torch.from_numpy(boxes).to(logits.device)
            whole: NDArray[np.bool_] = (self.mask(logits) & self.pixels(inside)).cpu().numpy()
            return whole
        height, width = self.tile_shape
        masks = np.zeros((len(boxes), height, width), bool)
        sides = zip(self.input_shape, self.tile_shape, strict=True)
        rows, columns = (_weights(*pair, self.image_size, logits.shape[-1]) for pair in sides)
        corners = np.ceil(np.reshape(boxes, (-1, 2, 2)) - 0.5).clip(0, (width, height)).astype(int)
        for mask, low, ((x0, y0), (x1, y1)) in zip(masks, logits, corners, strict=True):
            if x0 < x1 and y0 < y1:
                (down, y), (across, x) = _nonzero(rows[y0:y1]), _nonzero(columns[x0:x1])
                enlarged = down @ low[y, x] @ across.T
                mask[y0:y1, x0:x1] = (enlarged > 0).numpy()
        return masks


def _resize(logits: Tensor, shape: tuple[int, int]) -> Tensor:
    return F.interpolate(logits[:, None], shape, mode="bilinear", align_corners=False)[:, 0]


@cache
def _weights(input_side: int, tile_side: int, image_size: int, grid: int) -> Tensor:
    """Return the weight of each low-resolution pixel in each pixel of `Frame.mask`, along one side: (tile_side, grid).

    Args:
        input_side: side of a full tile in the network's input, pixels.
        tile_side: side of a full tile, pixels.
        image_size: side of the network's input, pixels.
        grid: side of the low-resolution logits, pixels.
    """
    enlarged = F.interpolate(torch.eye(grid)[None], image_size, mode="linear", align_corners=False)[:, :, :input_side]
    return F.interpolate(enlarged, tile_side, mode="linear", align_corners=False)[0].T


def _nonzero(weights: Tensor) -> tuple[Tensor, slice]:
    """Return the columns of weights (n, grid) of neighbouring pixels that are not all 0, and their range."""
    part = slice(int(weights[0].nonzero()[0]), int(weights[-1].nonzero()[-1]) + 1)
    return weights[:, part], part
