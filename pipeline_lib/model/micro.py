"""The built-in backbone `micro`: a small convolutional encoder with segment_anything's prompt encoder and decoder.

With it, the experiment runs without SAM's released weights. Its input has 256 × 256 pixels, its embedding has 256
channels of 32 × 32 cells. It is a `segment_anything.modeling.Sam`, so it can replace `vit_b`, `vit_l` and `vit_h`.
`training/pretraining.py` made its weights.
"""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline_lib.model.upstream import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

IMAGE_SIZE = 256  # pixels along the longest side of the network's input
STRIDE = 8  # input pixels per embedding cell
EMBEDDING_WIDTH = 256  # as in SAM


class ResidualBlock(nn.Module):
    """Two 3 × 3 convolutions, each after a group norm and ReLU, whose result is added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.GroupNorm(8, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(8, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return features (B, C, H, W) of the same shape."""
        residual: Tensor = self.layers(x)
        return x + residual


class MicroEncoder(nn.Module):
    """Five scales (strides 2 to 32) down, then a feature pyramid back to stride 8."""

    img_size = IMAGE_SIZE  # read by Sam.preprocess

    def __init__(self) -> None:
        super().__init__()
        widths, blocks = (32, 64, 128, 160, 192), (0, 1, 2, 2, 2)
        self.stem = nn.Conv2d(1, widths[0], 4, stride=2, padding=1)
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
            for width, count in zip(widths, blocks, strict=True)
        )
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairwise(widths))
        self.lateral = nn.ModuleList(nn.Conv2d(width, EMBEDDING_WIDTH, 1) for width in widths[2:])
        self.fine = nn.Conv2d(widths[1] * 4, EMBEDDING_WIDTH, 1)  # stride 4, unshuffled to 8: thin membranes
        self.mix = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(EMBEDDING_WIDTH, EMBEDDING_WIDTH // 2, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(EMBEDDING_WIDTH // 2, EMBEDDING_WIDTH, 3, padding=1),
        )
        self.norm = nn.GroupNorm(1, EMBEDDING_WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings (B 256 32 32) of normalised images (B 3 256 256) with three equal channels."""
        x = F.relu(self.stem(images[:, :1]))
        scales = []
        for index, stage in enumerate(self.stages):
            x = stage(self.down[index - 1](x) if index else x)
            scales.append(x)
        _, half, eighth, sixteenth, last = scales
        x = F.interpolate(self.lateral[2](last), scale_factor=2.0) + self.lateral[1](sixteenth)
        x = F.interpolate(x, scale_factor=2.0) + self.lateral[0](eighth) + self.fine(F.pixel_unshuffle(half, 2))
        embedding: Tensor = self.norm(x + self.mix(x))
        return embedding


def build_micro() -> Sam:
    """Build the network with random weights."""
    grid = IMAGE_SIZE // STRIDE
    return Sam(
        image_encoder=MicroEncoder(),
        prompt_encoder=PromptEncoder(EMBEDDING_WIDTH, (grid, grid), (IMAGE_SIZE, IMAGE_SIZE), mask_in_chans=16),
        mask_decoder=MaskDecoder(
            transformer_dim=EMBEDDING_WIDTH,
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_WIDTH, num_heads=8, mlp_dim=512),
        ),
        pixel_mean=[128.0] * 3,
        pixel_std=[64.0] * 3,
    )
