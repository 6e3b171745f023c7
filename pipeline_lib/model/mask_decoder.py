"""SAM's mask decoder for many boxes of few images: segment_anything's weights, a forward of our own, the same masks.

Stock (`MaskDecoder.forward`, `TwoWayTransformer.forward`) copies the image's features for every box, projects them anew
in each attention and rearranges them into heads; most of its time goes into moving memory. Here

- what depends on the weights alone is computed once for many images (`positions`): for later attentions, what the
  positional encoding adds to queries and keys; and what depends on the image alone once for many boxes
  (`image_features`): the first layer's queries, keys and values of the image;
- a box's own features are never projected nor split into heads. To compare q with W x is to compare Wᵀ q with x, and
  there are some seven tokens to 4,096 cells, so W goes to the tokens' side (`scores_of_own`, `attend`, `update`);
- a bias that is added to a weighted mean is added to what is averaged, since attention weights sum to one (`update`);
- features are (cells, channels) throughout, which layer norms want, and 1 × 1 convolutions as an image with its
  channels last. The output upscaling is such ones: no cell has a part in another's pixels, so it can be done for some
  cells alone (`upscale`, `upscale_cells`);
- one mask of four is asked for, so one is made, and two tokens of seven go through the last attention.

`python -m benchmarks.decode` compares this forward with stock. It takes a quarter of the time in float32.

Letters of shapes: B boxes, T tokens (IoU, four masks, two corners, perhaps the deviation token), N cells of the
embedding, C channels, H heads of D channels. Everything is differentiable, and follows autocast where that is on.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline_lib.model.upstream import Attention, LayerNorm2d, MaskDecoder, PromptEncoder

ROW = 64  # cells of one convolution: a single row of all takes longer in float32
OUTSIDE = -32.0  # the logit of a pixel that is not asked for: background, and exact in bfloat16


@dataclass(frozen=True)
class Positions:
    """All of the positional encoding that is the same for every image, laid out for products with tokens."""

    encoding: Tensor  # N C
    keys: Tensor  # H D N, the second layer's keys of the positional encoding alone
    queries: Tensor  # H D N
    last_keys: Tensor  # H D N, of the last attention


@dataclass(frozen=True)
class ImageFeatures:
    """All of an image that is the same for every box, laid out for products with tokens."""

    grid: tuple[int, int]  # h, w of the embedding; N = h · w
    positions: Positions
    features: Tensor  # N C: the embedding plus SAM's "no mask" vector
    keys: Tensor  # H D N, of the first layer's tokens-to-image attention
    values: Tensor  # H N D
    queries: Tensor  # H D N, of the first layer's image-to-tokens attention

    @property
    def heads(self) -> int:
        """H."""
        return len(self.keys)


def positions(prompt_encoder: PromptEncoder, decoder: MaskDecoder) -> Positions:
    """What stock does again for each box, though all images have it in common."""
    _, second = decoder.transformer.layers
    last, heads = decoder.transformer.final_attn_token_to_image, second.cross_attn_token_to_image.num_heads
    with torch.autocast(decoder.iou_token.weight.device.type, enabled=False):  # bfloat16 would round coordinates
        encoding = prompt_encoder.get_dense_pe()[0].flatten(1).T  # N C
    return Positions(
        encoding=encoding,
        keys=as_columns(second.cross_attn_token_to_image.k_proj, encoding, heads),
        queries=as_columns(second.cross_attn_image_to_token.q_proj, encoding, heads),
        last_keys=as_columns(last.k_proj, encoding, heads),
    )


def image_features(
    prompt_encoder: PromptEncoder, decoder: MaskDecoder, shared: Positions, embedding: Tensor
) -> ImageFeatures:
    """What stock does again for each box of an image; `embedding` is (1, C, h, w) float32."""
    first, _ = decoder.transformer.layers
    with torch.autocast(embedding.device.type, enabled=False):
        features = (embedding[0] + prompt_encoder.no_mask_embed.weight[0, :, None, None]).flatten(1).T.contiguous()
        placed = features + shared.encoding
    heads = first.cross_attn_token_to_image.num_heads
    return ImageFeatures(
        grid=(embedding.shape[2], embedding.shape[3]),
        positions=shared,
        features=features,
        keys=as_columns(first.cross_attn_token_to_image.k_proj, placed, heads),
        values=split(first.cross_attn_token_to_image.v_proj(features), heads).contiguous(),
        queries=as_columns(first.cross_attn_image_to_token.q_proj, placed, heads),
    )


def each(function: Callable[..., Tensor], images: Sequence[ImageFeatures], *tensors: Tensor) -> Tensor:
    """What a function makes of each image and the parts of tensors (B, …) that are its boxes', in their order."""
    runs = [list(same) for _, same in groupby(images, key=id)]
    parts = zip(*(tensor.split([len(same) for same in runs]) for tensor in tensors), strict=True)
    made = [function(same[0], *own) for same, own in zip(runs, parts, strict=True)]
    return made[0] if len(made) == 1 else torch.cat(made)  # which copies


def decode(
    decoder: MaskDecoder, images: Sequence[ImageFeatures], prompts: Tensor, cells: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One mask for each box: what `MaskDecoder.forward` returns without `multimask_output`.

    Args:
        decoder: the weights.
        images: for each of the B boxes that of `image_features` with these same weights and one `positions`; boxes of
            an image are neighbours.
        prompts: (B, P, C) float32, the prompt tokens of each box.
        cells: (B, h, w) bool, those whose logits are wanted; None: all. On the CPU.

    Returns:
        Low-resolution logits (B, 4h, 4w), `OUTSIDE` in the 4 × 4 pixels of other cells, and predicted IoU (B).
    """
    shared, heads = images[0].positions, images[0].heads
    first, second = decoder.transformer.layers
    last = decoder.transformer.final_attn_token_to_image
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    marks = torch.cat(
        [own.expand(len(prompts), -1, -1), prompts], dim=1
    )  # B T C, added to tokens as positions to cells

    tokens = first.norm1(first.self_attn(q=marks, k=marks, v=marks))
    tokens = first.norm2(
        tokens + each(partial(attend_to_shared, first.cross_attn_token_to_image), images, tokens + marks)
    )
    tokens = first.norm3(tokens + first.mlp(tokens))
    features = each(partial(update_shared, first.cross_attn_image_to_token), images, tokens, marks)
    features = first.norm4(features).to(features.dtype)  # B N C; autocast's norms return float32 on a GPU

    marked = tokens + marks
    tokens = second.norm1(tokens + second.self_attn(q=marked, k=marked, v=tokens))
    seen = attend(second.cross_attn_token_to_image, tokens + marks, features, shared.keys)
    tokens = second.norm2(tokens + seen)
    tokens = second.norm3(tokens + second.mlp(tokens))
    keys = scaled(second.cross_attn_image_to_token.k_proj, tokens + marks, heads)
    scores = scores_of_own(keys, second.cross_attn_image_to_token.q_proj, features, shared.queries)
    features = update(second.cross_attn_image_to_token, scores, tokens, features)
    features = second.norm4(features).to(features.dtype)

    tokens, marks = tokens[:, :2], marks[:, :2]  # those of the IoU and of the first mask
    tokens = tokens + attend(last, tokens + marks, features, shared.last_keys)
    tokens = decoder.transformer.norm_final_attn(tokens)
    kernel = decoder.output_hypernetworks_mlps[0](tokens[:, 1])
    if cells is None:
        logits = upscale(decoder.output_upscaling, features.unflatten(1, images[0].grid), kernel)
    else:
        logits = upscale_cells(decoder.output_upscaling, features.unflatten(1, images[0].grid), kernel, cells)
    with torch.autocast(logits.device.type, enabled=False):  # bfloat16 would round an IoU to 1 / 256
        return logits, decoder.iou_prediction_head(tokens[:, 0].float())[:, 0]


def as_columns(projection: nn.Linear, cells: Tensor, heads: int) -> Tensor:
    """Projected cells (N, C), as H D N."""
    return split(projection(cells), heads).transpose(1, 2).contiguous()


def split(x: Tensor, heads: int) -> Tensor:
    """(…, n, H · D) to (…, H, n, D)."""
    parts: Tensor = x.unflatten(-1, (heads, -1))
    return parts.transpose(-3, -2)


def scaled(projection: nn.Linear, tokens: Tensor, heads: int) -> Tensor:
    """Queries or keys (B, H, T, D) of tokens, with attention's 1 / √D in them: they are few, and scores are many."""
    x = split(projection(tokens), heads)
    return x / math.sqrt(x.shape[-1])


def scores_of_shared(x: Tensor, cells: Tensor) -> Tensor:
    """Products of the boxes' x (B, H, T, D) with cells (H, D, N) that are the same for all: (B, H · T, N)."""
    return torch.einsum("bhtd,hdn->bhtn", x, cells).flatten(1, 2)


def scores_of_own(x: Tensor, projection: nn.Linear, features: Tensor, positions: Tensor) -> Tensor:
    """Products of x (B, H, T, D) with the projection of features (B, N, C) plus positions: (B, H · T, N).

    `positions` (H, D, N) are projected already, and have the projection's bias in them.
    """
    folded = torch.einsum("bhtd,hdc->bhtc", x, projection.weight.unflatten(0, (x.shape[1], -1)))
    return Products.apply(scores_of_shared(x, positions), folded.flatten(1, 2), features)  # type: ignore[no-any-return]


class Products(torch.autograd.Function):
    """Scores (B, K, N), plus the products of x (B, K, C) with features (B, N, C), which are autograd's `baddbmm`.

    The features' gradient is written as they lie in memory. Autograd's lies across, and is slow to add up.
    """

    @staticmethod
    def forward(context: Any, scores: Tensor, x: Tensor, features: Tensor) -> Tensor:
        """Scores (B, K, N) under autocast where that is on."""
        context.save_for_backward(x, features)
        return torch.baddbmm(scores, x, features.transpose(1, 2))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the three."""
        x, features = context.saved_tensors
        return gradient, torch.bmm(gradient, features), torch.bmm(gradient.transpose(1, 2), x)


def attend_to_shared(attention: Attention, image: ImageFeatures, tokens: Tensor) -> Tensor:
    """Tokens (B, T, C) attend to an image while it is still the same for its boxes: one attention of B · T queries."""
    queries = scaled(attention.q_proj, tokens, image.heads).transpose(0, 1).flatten(1, 2)  # H BT D
    seen = torch.bmm(torch.bmm(queries, image.keys).softmax(dim=-1), image.values)
    by_box = seen.unflatten(1, (len(tokens), -1)).permute(1, 2, 0, 3)  # B T H D
    attended: Tensor = attention.out_proj(by_box.flatten(2))
    return attended


def attend(attention: Attention, tokens: Tensor, features: Tensor, positions: Tensor) -> Tensor:
    """Tokens (B, T, C) attend to their own box's features (B, N, C), which are averaged first and projected then."""
    queries = scaled(attention.q_proj, tokens, attention.num_heads)
    scores = scores_of_own(queries, attention.k_proj, features, positions)
    means = torch.bmm(scores.softmax(dim=-1), features).unflatten(1, (attention.num_heads, -1))  # B H T C
    weight = attention.v_proj.weight.unflatten(0, (attention.num_heads, -1))
    seen = torch.einsum("bhtc,hdc->bthd", means, weight).flatten(2) + attention.v_proj.bias
    attended: Tensor = attention.out_proj(seen)
    return attended


def update(attention: Attention, scores: Tensor, tokens: Tensor, features: Tensor) -> Tensor:
    """Features (N, C) or (B, N, C), plus what each cell takes from the tokens (B, T, C) by its scores (B, H · T, N).

    Values and output projection are multiplied before cells come in. Each head's weights sum to one in every cell, so
    the output's bias is shared out among the heads' values.
    """
    heads = attention.num_heads
    shares = scores.unflatten(1, (heads, -1)).softmax(dim=2).flatten(1, 2)  # B HT N
    values, weight = split(attention.v_proj(tokens), heads), attention.out_proj.weight.unflatten(1, (heads, -1))
    outputs = torch.einsum("bhtd,chd->bhtc", values, weight).flatten(1, 2) + attention.out_proj.bias / heads
    return torch.baddbmm(features, shares.transpose(1, 2), outputs)


def update_shared(attention: Attention, image: ImageFeatures, tokens: Tensor, marks: Tensor) -> Tensor:
    """The first update: an image's features, the same for its boxes until then, become each box's own (B, N, C)."""
    keys = scaled(attention.k_proj, tokens + marks, image.heads)
    return update(attention, scores_of_shared(keys, image.queries), tokens, image.features)


def upscale(layers: nn.Sequential, features: Tensor, kernels: Tensor) -> Tensor:
    """SAM's output upscaling of features (B, h, w, C), times each mask's kernel (B, C / 8): (B, 4h, 4w)."""
    x = enlarged(layers, features)
    return spread(torch.bmm(x.flatten(1, 3), kernels[:, :, None]).view(x.shape[:4]))


def upscale_cells(layers: nn.Sequential, features: Tensor, kernels: Tensor, cells: Tensor) -> Tensor:
    """`upscale` where `cells` (B, h, w) bool are true, `OUTSIDE` elsewhere; all boxes together."""
    # to a GPU without waiting for it
    at = tuple(index.to(features.device, non_blocking=True) for index in cells.nonzero(as_tuple=True))
    rows = features[at]
    padded = F.pad(rows, (0, 0, 0, -len(rows) % ROW)).view(-1, 1, ROW, rows.shape[1])
    runs = enlarged(layers, padded).flatten(0, 2)[: len(rows)].split(cells.sum((1, 2)).tolist())
    chosen = torch.cat([run @ kernel for run, kernel in zip(runs, kernels, strict=True)])
    logits = chosen.new_full((*cells.shape, chosen.shape[1]), OUTSIDE)
    logits[at] = chosen
    return spread(logits)


def enlarged(layers: nn.Sequential, features: Tensor) -> Tensor:
    """SAM's output upscaling of features (B, h, w, C), cell by cell: the 16 pixels of each, (B, h, w, 16, C / 8).

    A transposed convolution whose stride is its kernel's side has no part of a cell in another's pixels.
    """
    enlarge, norm, activate, enlarge_again, activate_again = layers
    assert isinstance(norm, LayerNorm2d)  # over channels, so that on channels last it is the fused `layer_norm`
    x = project(enlarge, features).unflatten(3, (4, -1))
    x = activate(F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps))
    x = activate_again(project(enlarge_again, x.flatten(2, 3)))  # B h w·4 4·C/8
    pixels: Tensor = x.unflatten(2, (-1, 4)).unflatten(4, (4, -1)).flatten(3, 4)
    return pixels


def project(enlarge: nn.Module, x: Tensor) -> Tensor:
    """A 2 × 2 transposed convolution of x (B, h, w, C) as a 1 × 1 convolution: (B, h, w, 4 · C of four pixels)."""
    assert isinstance(enlarge, nn.ConvTranspose2d)
    assert enlarge.bias is not None
    weight = enlarge.weight.permute(2, 3, 1, 0).flatten(0, 2)
    if x.is_cuda:  # where a convolution takes a millisecond, and two backwards, to choose how for each number of cells
        return F.linear(x, weight, enlarge.bias.repeat(4))
    return F.conv2d(x.permute(0, 3, 1, 2), weight[:, :, None, None], enlarge.bias.repeat(4)).permute(0, 2, 3, 1)


def spread(pixels: Tensor) -> Tensor:
    """The 16 pixels (B, h, w, 16) of each cell, four times four of `enlarged`, in their places: (B, 4h, 4w)."""
    placed: Tensor = pixels.unflatten(3, (2, 2, 2, 2)).permute(0, 1, 3, 5, 2, 4, 6)  # B h y y' w x x'
    return placed.flatten(4, 6).flatten(1, 3)
