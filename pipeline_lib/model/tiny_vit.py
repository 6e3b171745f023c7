"""TinyViT, the image encoder of MobileSAM and LiteMedSAM: their weights and names, a forward of our own.

Wu et al. 2022, "TinyViT: Fast Pretraining Distillation for Small Vision Transformers", in the form of MobileSAM (Zhang
et al. 2023): the last reduction keeps its stride, so that a grid of 64 × 64 cells comes out. To take less time and
memory than LiteMedSAM's own package (`python -m benchmarks.encode`), each image goes through by itself, batch norms,
whose statistics are fixed, are folded into the convolutions before them, and all features keep their channels last, so
that convolutions and layer norms take them as they lie.

Letters of shapes: B images, h × w the grid, C channels, H heads of D channels, N cells of a window.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline_lib.model.image_encoder import linear, times
from pipeline_lib.model.upstream import LayerNorm2d, window_partition, window_unpartition

WIDTHS = (64, 128, 160, 320)  # channels of the four stages
DEPTHS = (2, 2, 6, 2)  # their blocks
HEADS = (0, 4, 5, 10)  # of attention; the first stage has convolutions
WINDOWS = (0, 7, 14, 7)  # cells along a side
STRIP = 32  # rows of the first stage's blocks at a time
REDUCTIONS = (2, 2, 1)  # strides between the stages
EMBEDDING_WIDTH = 256  # as in SAM


class ConvNorm(nn.Module):
    """A convolution and the batch norm behind it, in one step."""

    def __init__(self, width_in: int, width_out: int, side: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.c = nn.Conv2d(width_in, width_out, side, stride, side // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(width_out)

    def forward(self, x: Tensor, padding: tuple[int, int] | None = None) -> Tensor:
        """Features (B, C, h, w), in evaluation mode: by the statistics of pretraining; in float32 under autocast too.

        Were they in bfloat16, an embedding's error would be three times as large (`test_bfloat16_embeds_nearly_alike`).
        Another `padding`, of rows and columns, may be given than half of the kernel's side.
        """
        with torch.autocast(x.device.type, enabled=False):
            # not torch's fuse_conv_bn_eval, which copies modules, and ONNX's exporter refuses that
            mean, variance = self.bn.get_buffer("running_mean"), self.bn.get_buffer("running_var")
            scale = self.bn.weight * torch.rsqrt(variance + self.bn.eps)
            weight, bias = self.c.weight * scale[:, None, None, None], self.bn.bias - mean * scale
            if self.c.kernel_size == (1, 1):  # which torch gives to a slow convolution of its own where B is 1
                return times(x.float().permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
            half = self.c.kernel_size[0] // 2
            return F.conv2d(x.float(), weight, bias, self.c.stride, padding or (half, half), groups=self.c.groups)


class ConvBlock(nn.Module):
    """A block of the first stage: to four times the channels, a 3 × 3 convolution of each, and back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width, 4 * width)
        self.conv2 = ConvNorm(4 * width, 4 * width, side=3, groups=4 * width)
        self.conv3 = ConvNorm(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w) of the same shape; some rows at a time, as four times the channels are large."""
        height = x.shape[2]
        strips = [self.strip(x, top, min(top + STRIP, height)) for top in range(0, height, STRIP)]
        return torch.cat(strips, dim=2)

    def strip(self, x: Tensor, top: int, bottom: int) -> Tensor:
        """The rows from `top` to `bottom`; the 3 × 3 convolution sees one more on either side, or zeros."""
        first, end = max(top - 1, 0), min(bottom + 1, x.shape[2])
        wide = F.gelu(self.conv1(x[:, :, first:end]))
        if (first, end) != (top - 1, bottom + 1):  # at the image's border; padding copies all
            wide = F.pad(wide, (0, 0, first - top + 1, bottom + 1 - end))
        return F.gelu(x[:, :, top:bottom] + self.conv3(F.gelu(self.conv2(wide, (0, 1)))))


class Reduction(nn.Module):
    """Between two stages: to the next one's channels, and to its grid."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width_in, width_out)
        self.conv2 = ConvNorm(width_out, width_out, side=3, stride=stride, groups=width_out)
        self.conv3 = ConvNorm(width_out, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w) to (B, C', h / stride, w / stride)."""
        reduced: Tensor = self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))
        return reduced


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
        """What is added to the score of each two cells of a window, (H, N, N)."""
        line = torch.arange(self.window)
        apart = (line[:, None] - line).abs()
        table = self.attention_biases.unflatten(1, (self.window, self.window))
        biases: Tensor = table[:, apart[:, None, :, None], apart[None, :, None, :]]
        return biases.flatten(3).flatten(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Cells (B, h, w, C) to what they take from their windows, of the same shape.

        The grid is padded with zeros to whole windows. They are normalised as cells are, and are keys too.
        """
        windows, padded = window_partition(x, self.window)
        q, k, v = linear(self.qkv, self.norm(windows)).flatten(1, 2).unflatten(2, (self.heads, 3, -1)).unbind(3)
        q, k, v = (each.transpose(1, 2) for each in (q, k, v))  # B·windows H N D
        # not `scaled_dot_product_attention`, which with biases looks through all scores for what is masked
        scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(2, 3)) + self.biases().to(q.dtype)
        taken = torch.matmul(scores.softmax(dim=-1), v)
        taken = taken.transpose(1, 2).flatten(2).unflatten(1, (self.window, self.window))
        return linear(self.proj, window_unpartition(taken, self.window, padded, x.shape[1:3]))


class Mlp(nn.Module):
    """The part of a block that sees one cell at a time."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Cells (B, h, w, C) to cells of the same shape."""
        return linear(self.fc2, F.gelu(linear(self.fc1, self.norm(x))))


class AttentionBlock(nn.Module):
    """A block of the later stages: attention in windows, a 3 × 3 convolution of each channel, and a small MLP."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.attn = WindowAttention(width, heads, window)
        self.mlp = Mlp(width)
        self.local_conv = ConvNorm(width, width, side=3, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w) of the same shape."""
        x = x + self.attn(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = self.local_conv(x)
        changed: Tensor = self.mlp(x.permute(0, 2, 3, 1))
        return x + changed.permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Blocks of one grid, and the reduction to the next one."""

    def __init__(self, blocks: Sequence[nn.Module], downsample: Reduction | None) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, h, w) to those of the next stage."""
        x = self.blocks(x)
        return x if self.downsample is None else self.downsample(x)


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
        """Embeddings (B, 256, 64, 64) of normalised images (B, 3, S, S)."""
        images = images.contiguous(memory_format=torch.channels_last)
        return torch.cat([self.encode(image) for image in images.split(1)]).contiguous()

    def encode(self, image: Tensor) -> Tensor:
        """The embedding of one image."""
        x = self.layers(self.patch_embed(image)).permute(0, 2, 3, 1)
        x = times(x, self.neck.get_parameter("0.weight").flatten(1)).permute(0, 3, 1, 2)
        embedding: Tensor = self.neck[1:](x)
        return embedding


def _stage(index: int) -> Stage:
    width, heads, window = WIDTHS[index], HEADS[index], WINDOWS[index]
    blocks = [AttentionBlock(width, heads, window) if heads else ConvBlock(width) for _ in range(DEPTHS[index])]
    last = index == len(REDUCTIONS)
    return Stage(blocks, None if last else Reduction(width, WIDTHS[index + 1], REDUCTIONS[index]))
