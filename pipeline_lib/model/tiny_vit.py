"""TinyViT, the image encoder of MobileSAM and LiteMedSAM, with their names of weights.

Wu et al. 2022, "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", in the form of MobileSAM (Zhang
et al. 2023): the last reduction keeps its stride, so that a grid of 64 × 64 cells comes out. LiteMedSAM's own package
has this network too. It needs timm, which takes nearly as long to import as torch, and has no form for MobileSAM.

Letters of shapes: B images, h × w the grid, C channels, H heads of D channels, N cells of a window.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline_lib.model.upstream import LayerNorm2d, window_partition, window_unpartition

WIDTHS = (64, 128, 160, 320)  # channels of the four stages
DEPTHS = (2, 2, 6, 2)  # their blocks
HEADS = (0, 4, 5, 10)  # of attention; the first stage has convolutions
WINDOWS = (0, 7, 14, 7)  # cells along a side
REDUCTIONS = (2, 2, 1)  # strides between the stages
EMBEDDING_WIDTH = 256  # as in SAM


class ConvNorm(nn.Sequential):
    """A convolution and the batch norm behind it, on features (B, C, h, w)."""

    def __init__(self, width_in: int, width_out: int, side: int = 1, stride: int = 1, groups: int = 1) -> None:
        conv = nn.Conv2d(width_in, width_out, side, stride, side // 2, groups=groups, bias=False)
        super().__init__(OrderedDict(c=conv, bn=nn.BatchNorm2d(width_out)))


class Bottleneck(nn.Sequential):
    """Three convolutions: of each cell, of each channel among 3 × 3 cells, and of each cell."""

    def __init__(self, width_in: int, width: int, width_out: int, stride: int) -> None:
        first, last = ConvNorm(width_in, width), ConvNorm(width, width_out)
        second = ConvNorm(width, width, side=3, stride=stride, groups=width)
        super().__init__(OrderedDict(conv1=first, act1=nn.GELU(), conv2=second, act2=nn.GELU(), conv3=last))

    def forward(self, x: Tensor) -> Tensor:
        """Reduce cells (B, h, w, C) to (B, h / stride, w / stride, C')."""
        return self.convolved(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

    def convolved(self, x: Tensor) -> Tensor:
        """Return the convolved features (B, C', h / stride, w / stride) of features (B, C, h, w)."""
        for layer in self:
            x = layer(x)
        return x


class ConvBlock(Bottleneck):
    """A block of the first stage, with four times the channels inside."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 4 * width, width, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return cells (B, h, w, C) of the same shape."""
        x = x.permute(0, 3, 1, 2)
        return F.gelu(x + self.convolved(x)).permute(0, 2, 3, 1)


class WindowAttention(nn.Module):
    """Attention among the cells of a window, with a learned bias for each distance between two of them."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.attention_biases = nn.Parameter(torch.zeros(heads, window**2))  # by rows and columns apart

    def biases(self) -> Tensor:
        """Return what is added to the score of each two cells of a window, (H, N, N)."""
        line = torch.arange(self.window)
        apart = (line[:, None] - line).abs()
        table = self.attention_biases.unflatten(1, (self.window, self.window))
        biases: Tensor = table[:, apart[:, None, :, None], apart[None, :, None, :]]
        return biases.flatten(3).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return what cells (B, h, w, C) take from their windows, of the same shape.

        The grid is padded with zeros to whole windows. They are normalised as cells are, and are keys too.
        """
        windows, padded = window_partition(x, self.window)
        qkv = self.qkv(self.norm(windows.flatten(1, 2))).unflatten(2, (self.heads, -1)).transpose(1, 2)
        q, k, v = qkv.chunk(3, dim=-1)  # B·windows H N D
        taken = F.scaled_dot_product_attention(q, k, v, attn_mask=self.biases().to(q.dtype))
        taken = self.proj(taken.transpose(1, 2).flatten(2)).unflatten(1, (self.window, self.window))
        cells: Tensor = window_unpartition(taken, self.window, padded, x.shape[1:3])
        return cells


class AttentionBlock(nn.Module):
    """A block of the later stages: attention in windows, a 3 × 3 convolution of each channel, and a small MLP."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.attn = WindowAttention(width, heads, window)
        first, last = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.mlp = nn.Sequential(OrderedDict(norm=nn.LayerNorm(width), fc1=first, act=nn.GELU(), fc2=last))
        self.local_conv = ConvNorm(width, width, side=3, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """Return cells (B, h, w, C) of the same shape."""
        x = x + self.attn(x)
        x = self.local_conv(x.permute(0, 3, 1, 2))
        cells = x.flatten(2).transpose(1, 2)  # B hw C: with four axes, OpenVINO's linear layers are slower
        changed: Tensor = (cells + self.mlp(cells)).unflatten(1, x.shape[2:])
        return changed


class TinyViT(nn.Module):
    """Images to SAM's embeddings.

    Args:
        image_size: side of the input, pixels; read by `Sam.preprocess`.
        patch_side: of the two convolutions that make the first features, pixels.
        patch_stride: of each of the two.
    """

    def __init__(self, image_size: int, patch_side: int, patch_stride: int) -> None:
        super().__init__()
        self.img_size = image_size
        first = ConvNorm(3, WIDTHS[0] // 2, patch_side, patch_stride)
        second = ConvNorm(WIDTHS[0] // 2, WIDTHS[0], patch_side, patch_stride)
        self.patch_embed = nn.Sequential(OrderedDict(seq=nn.Sequential(first, nn.GELU(), second)))
        self.layers = nn.Sequential(*map(_stage, range(len(WIDTHS))))
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], EMBEDDING_WIDTH, 1, bias=False),
            LayerNorm2d(EMBEDDING_WIDTH),
            nn.Conv2d(EMBEDDING_WIDTH, EMBEDDING_WIDTH, 3, padding=1, bias=False),
            LayerNorm2d(EMBEDDING_WIDTH),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (B, 256, 64, 64) of normalised images (B, 3, S, S)."""
        cells = self.layers(self.patch_embed(images).permute(0, 2, 3, 1))
        embeddings: Tensor = self.neck(cells.permute(0, 3, 1, 2))
        return embeddings


def _stage(index: int) -> nn.Sequential:
    """Build the blocks of one grid, and the reduction to the next one."""
    width, heads, window = WIDTHS[index], HEADS[index], WINDOWS[index]
    blocks = [AttentionBlock(width, heads, window) if heads else ConvBlock(width) for _ in range(DEPTHS[index])]
    stage = nn.Sequential(OrderedDict(blocks=nn.Sequential(*blocks)))
    if index < len(REDUCTIONS):
        wider = WIDTHS[index + 1]
        stage.add_module("downsample", Bottleneck(width, wider, wider, REDUCTIONS[index]))
    return stage
