"""SAM's image encoder: segment_anything's weights, a forward of our own, the same embeddings.

Stock (`ImageEncoderViT.forward`) makes the whole table of attention scores in a global block, 4,096² for each head, and
goes through it once for each of a handful of operations; most of its time goes into moving memory. Here

- on a GPU, attention is torch's fused one, with the relative positions as its mask (`fused`);
- on a CPU, which has caches, scores are made for some rows of one head's queries at a time and used up at once
  (`in_pieces`), or in a window for all (`at_once`). Torch's fused attention makes matrix products there that are slower
  than those of its libraries;
- float32 products with weights go to oneDNN on a CPU, disguised as convolutions (`times`): torch sends matrix products
  to MKL, which on AMD's processors leaves half of the vector unit unused;
- a window's padding is cut off before the output projection, not after.

Relative positions decompose into rows and columns of the grid: what is added to the score of a query q and the key at
(y, x) is q · R(y) + q · C(x). Both are small, (h, w) each for a query, and nothing larger outlives a piece.

`python -m benchmarks.encode` compares this forward with stock. An encoding by vit_b is × 1.9 as fast in float32.

Letters of shapes: B images (or their windows), h × w the grid, C channels, H heads of D channels. Under autocast,
matrix products are in bfloat16; what is added up along the blocks stays float32, and so does the neck.
"""

from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline_lib.model.upstream import ImageEncoderViT, ViTAttention, get_rel_pos, window_partition, window_unpartition

PIECE = 16  # rows of queries; at 64 cells a row, their scores with 4,096 keys are 16 MiB in float32


def encode(encoder: nn.Module, images: Tensor) -> Tensor:
    """Embeddings (B, 256, h, w) float32 of normalised images (B, 3, S, S) float32: what `encoder(images)` returns."""
    if not isinstance(encoder, ImageEncoderViT):
        embedding: Tensor = encoder(images)  # micro, and TinyViT, whose forward is ours already
        return embedding.float()
    x = encoder.patch_embed(images) + encoder.pos_embed  # B h w C
    for block in encoder.blocks:
        x = x + attend_cells(block.attn, block.norm1(x), block.window_size)
        inner = linear(block.mlp.lin1, block.norm2(x))
        x = x + linear(block.mlp.lin2, block.mlp.act(inner))
    with torch.autocast(x.device.type, enabled=False):  # under 1 % of all products, and the last to be rounded
        neck: Tensor = encoder.neck(x.permute(0, 3, 1, 2))
    return neck


def attend_cells(attention: ViTAttention, x: Tensor, window: int) -> Tensor:
    """What cells (B, h, w, C) take from all others or, with `window`, from those of their window of so many squared."""
    grid = x.shape[1:3]
    if window:
        x, padded = window_partition(x, window)  # with zeros beyond the grid, which are keys too
    q, k, v = (
        linear(attention.qkv, x).unflatten(-1, (3, attention.num_heads, -1)).permute(3, 0, 4, 1, 2, 5)
    )  # B H h w D
    positions = relative_positions(attention, q)
    if window:
        seen = (fused if x.is_cuda else at_once)(q, k, v, *positions)
    elif x.is_cuda:  # an image at a time, for the positions' part of its scores is a gigabyte in vit_h
        images = zip(*(part.split(1) for part in (q, k, v, *positions)), strict=True)
        seen = torch.cat([fused(*image) for image in images])
    else:
        seen = in_pieces(q, k, v, *positions)
    if window:
        seen = window_unpartition(seen, window, padded, grid)
    return linear(attention.proj, seen)


def relative_positions(attention: ViTAttention, q: Tensor) -> tuple[Tensor, Tensor]:
    """What queries (B, H, h, w, D) add to scores with each row (B, H, h, w, h) and column (B, H, h, w, w) of keys."""
    h, w = q.shape[2:4]
    rows = torch.einsum("bnhwd,hkd->bnhwk", q, get_rel_pos(h, h, attention.rel_pos_h))
    columns = torch.einsum("bnhwd,wkd->bnhwk", q, get_rel_pos(w, w, attention.rel_pos_w))
    return rows.contiguous(), columns.contiguous()


def fused(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Attention of (B, H, h, w, D) to (B, h, w, H · D), the positions' part of all scores at once."""
    positions = (rows[..., :, None] + columns[..., None, :]).flatten(4).flatten(2, 3)  # B H hw hw
    q, k, v = (x.flatten(2, 3) for x in (q, k, v))
    seen = F.scaled_dot_product_attention(q, k, v, attn_mask=positions)
    attended: Tensor = seen.transpose(1, 2).unflatten(1, rows.shape[2:4]).flatten(3)
    return attended


def at_once(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The same as `fused`, the positions' part by the product that makes the scores.

    To queries it appends what each row and column adds, to keys which row and column they are in: a window has few.
    """
    h, w, width = q.shape[2:]
    row, column = torch.eye(h).repeat_interleave(w, dim=0), torch.eye(w).repeat(h, 1)  # hw h, hw w
    places = torch.cat([row, column], dim=1).to(k).expand(*k.shape[:2], -1, -1)
    placed = torch.cat([k.flatten(2, 3), places], dim=-1)  # B H hw D+h+w
    asked = torch.cat([q * width**-0.5, rows, columns], dim=-1).flatten(2, 3)
    seen = torch.matmul(torch.matmul(asked, placed.transpose(2, 3)).softmax(dim=-1), v.flatten(2, 3))
    attended: Tensor = seen.transpose(1, 2).unflatten(1, (h, w)).flatten(3)
    return attended


def in_pieces(q: Tensor, k: Tensor, v: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The same as `fused`, some rows of queries at a time."""
    images, heads, h, w, width = q.shape
    seen = q.new_empty(images, h, w, heads, width)
    q = q * width**-0.5
    for image, head in product(range(images), range(heads)):
        keys, values = k[image, head].flatten(0, 1), v[image, head].flatten(0, 1).T.contiguous()  # hw D, D hw
        for start in range(0, h, PIECE):
            part = slice(start, start + PIECE)
            scores = times(q[image, head, part], keys).unflatten(-1, (h, w))  # PIECE w h w
            scores += rows[image, head, part, :, :, None]
            scores += columns[image, head, part, :, None, :]
            seen[image, part, :, head] = times(scores.flatten(2).softmax(dim=-1), values)
    return seen.flatten(3)


def linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer on x (B, h, w, C)."""
    return times(x, layer.weight, layer.bias)


def times(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Products (…, w, K) of x (…, w, C) with weight (K, C), plus bias (K)."""
    if x.is_cuda or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    rows = x.flatten(0, -3)[:, None].movedim(-1, 1)  # n C 1 w, channels last: images of one row of pixels
    return F.conv2d(rows, weight[:, :, None, None], bias).movedim(1, -1).view(*x.shape[:-1], -1)
