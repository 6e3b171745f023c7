"""SAM's mask decoder for many boxes of a few images: segment_anything's weights, our own forward, the same masks.

Stock (`MaskDecoder.forward`, `TwoWayTransformer.forward`) copies the image's features for every box. In each attention
it projects them again and rearranges them into heads. Most of its time goes into moving memory. This forward computes
the same function with fewer copies:

- What depends only on the weights is computed once for many images (`positions`). For later attentions, this is what
  the positional encoding adds to queries and keys.
- What depends only on the image is computed once for its boxes (`image_features`): the image's queries, keys and values
  in the first layer.
- After the first layer, each box has its own features. They are never projected or split into heads: q · (W x) equals
  (Wᵀ q) · x. There are about seven tokens and 4,096 cells, so it is cheaper to multiply the tokens by W
  (`box_scores`, `attend`, `update`).
- A bias that is added to a weighted mean can be added to each term of it, because attention weights sum to one
  (`update`).
- Features have the layout (cells, channels) throughout. Layer norms need it, and 1 × 1 convolutions take it as an image
  with its channels last. The output upscaling is a chain of 1 × 1 convolutions: a cell does not affect the pixels of
  other cells. It can therefore be computed for some cells only (`upscale`, `upscale_cells`).
- We need one of the four masks, so one is made, and only two of the seven tokens go through the last attention.

`python -m benchmarks.decode` compares this forward with stock. It takes a quarter of the time in float32.

Letters of shapes: B boxes, T tokens (IoU, four masks, two corners, perhaps the deviation token), N cells of the
embedding, C channels, H heads of D channels. Everything is differentiable, and follows autocast if it is on.
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

ROW = 64  # cells in a row of a convolution: one row of all cells takes longer in float32
OUTSIDE = -32.0  # logit of pixels that are not computed: background, and exact in bfloat16


@dataclass(frozen=True)
class Positions:
    """The positional encoding of the cells and its projections, which all images share, ready for products."""

    encoding: Tensor  # N C
    keys: Tensor  # H D N, second layer, tokens to image: the encoding as keys
    queries: Tensor  # H D N, second layer, image to tokens: the encoding as queries
    last_keys: Tensor  # H D N, last attention, tokens to image: the encoding as keys


@dataclass(frozen=True)
class ImageFeatures:
    """What all boxes of an image share, laid out for products with tokens."""

    grid: tuple[int, int]  # h, w of the embedding; N = h · w
    positions: Positions
    features: Tensor  # N C: the embedding plus SAM's "no mask" vector
    keys: Tensor  # H D N, first layer, tokens to image
    values: Tensor  # H N D, first layer, tokens to image
    queries: Tensor  # H D N, first layer, image to tokens

    @property
    def heads(self) -> int:
        """Number of attention heads, H."""
        return len(self.keys)


def positions(prompt_encoder: PromptEncoder, decoder: MaskDecoder) -> Positions:
    """Precompute the products of the positional encoding that depend only on the weights."""
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
    """Precompute what all boxes of an image share.

    Args:
        prompt_encoder: Its "no mask" vector is added to the embedding, as if there were no mask prompt.
        decoder: The weights.
        shared: Of `positions`, with these same weights.
        embedding: (1, C, h, w) float32.
    """
    first, _ = decoder.transformer.layers
    with torch.autocast(embedding.device.type, enabled=False):
        features = (embedding[0] + prompt_encoder.no_mask_embed.weight[0, :, None, None]).flatten(1).T.contiguous()
        encoded = features + shared.encoding
    heads = first.cross_attn_token_to_image.num_heads
    return ImageFeatures(
        grid=(embedding.shape[2], embedding.shape[3]),
        positions=shared,
        features=features,
        keys=as_columns(first.cross_attn_token_to_image.k_proj, encoded, heads),
        values=split_heads(first.cross_attn_token_to_image.v_proj(features), heads).contiguous(),
        queries=as_columns(first.cross_attn_image_to_token.q_proj, encoded, heads),
    )


def map_images(function: Callable[..., Tensor], images: Sequence[ImageFeatures], *tensors: Tensor) -> Tensor:
    """Call a function for each image with its boxes' parts of tensors (B, …), and join the results along B.

    Args:
        function: From the features of an image and parts (b, …) to a tensor (b, …).
        images: Features of the image of each box; boxes of an image are neighbours.
        tensors: One row for each box.
    """
    runs = [list(run) for _, run in groupby(images, key=id)]
    parts = zip(*(tensor.split([len(run) for run in runs]) for tensor in tensors), strict=True)
    results = [function(run[0], *rows) for run, rows in zip(runs, parts, strict=True)]
    return results[0] if len(results) == 1 else torch.cat(results)  # `cat` copies


def decode(
    decoder: MaskDecoder, images: Sequence[ImageFeatures], prompts: Tensor, cells: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return one mask for each box, as `MaskDecoder.forward` does without `multimask_output`.

    In stock's names, `tokens` are `queries`, `encoding` is `query_pe`, and `features` are `keys`.

    Args:
        decoder: The weights.
        images: Features of the image of each of the B boxes, from `image_features` with these same weights and one
            `positions`. Boxes of an image are neighbours.
        prompts: (B, P, C) float32, the prompt tokens of each box.
        cells: (B, h, w) bool on the CPU, the cells whose logits to compute; None: all.

    Returns:
        Low-resolution logits (B, 4h, 4w), `OUTSIDE` in the 4 × 4 pixels of other cells, and predicted IoU (B).
    """
    shared, heads = images[0].positions, images[0].heads
    first, second = decoder.transformer.layers
    last = decoder.transformer.final_attn_token_to_image

    # Tokens: one for the IoU, four for masks, then the prompts. As their positional encoding, SAM adds the initial
    # tokens again wherever tokens are queries or keys.
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    encoding = torch.cat([output_tokens.expand(len(prompts), -1, -1), prompts], dim=1)  # B T C

    # Layer 1: tokens attend to themselves. SAM adds neither the encoding nor the input here (`skip_first_layer_pe`).
    tokens = first.norm1(first.self_attn(q=encoding, k=encoding, v=encoding))

    # Layer 1: tokens attend to the image.
    attended = map_images(partial(attend_to_shared, first.cross_attn_token_to_image), images, tokens + encoding)
    tokens = first.norm2(tokens + attended)

    # Layer 1: MLP.
    tokens = first.norm3(tokens + first.mlp(tokens))

    # Layer 1: the image attends to the tokens. From here on, each box has its own features.
    features = map_images(partial(update_shared, first.cross_attn_image_to_token), images, tokens, encoding)
    features = first.norm4(features).to(features.dtype)  # B N C; autocast's norms return float32 on a GPU

    # Layer 2: tokens attend to themselves.
    queries = tokens + encoding
    tokens = second.norm1(tokens + second.self_attn(q=queries, k=queries, v=tokens))

    # Layer 2: tokens attend to the image.
    attended = attend(second.cross_attn_token_to_image, tokens + encoding, features, shared.keys)
    tokens = second.norm2(tokens + attended)

    # Layer 2: MLP.
    tokens = second.norm3(tokens + second.mlp(tokens))

    # Layer 2: the image attends to the tokens.
    keys = scaled_heads(second.cross_attn_image_to_token.k_proj, tokens + encoding, heads)
    scores = box_scores(keys, second.cross_attn_image_to_token.q_proj, features, shared.queries)
    features = update(second.cross_attn_image_to_token, scores, tokens, features)
    features = second.norm4(features).to(features.dtype)

    # Last attention, tokens to image: only the tokens of the IoU and of the first mask are used after it.
    tokens, encoding = tokens[:, :2], encoding[:, :2]
    tokens = tokens + attend(last, tokens + encoding, features, shared.last_keys)
    tokens = decoder.transformer.norm_final_attn(tokens)

    # Mask: the upscaled features times a kernel that the hypernetwork makes from the mask's token.
    kernel = decoder.output_hypernetworks_mlps[0](tokens[:, 1])
    features = features.unflatten(1, images[0].grid)
    if cells is None:
        logits = upscale(decoder.output_upscaling, features, kernel)
    else:
        logits = upscale_cells(decoder.output_upscaling, features, kernel, cells)

    # Predicted IoU.
    with torch.autocast(logits.device.type, enabled=False):  # bfloat16 would round an IoU to 1 / 256
        return logits, decoder.iou_prediction_head(tokens[:, 0].float())[:, 0]


def as_columns(projection: nn.Linear, cells: Tensor, heads: int) -> Tensor:
    """Return the projection of cells (N, C) as H D N."""
    return split_heads(projection(cells), heads).transpose(1, 2).contiguous()


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Rearrange (…, n, H · D) to (…, H, n, D)."""
    parts: Tensor = x.unflatten(-1, (heads, -1))
    return parts.transpose(-3, -2)


def scaled_heads(projection: nn.Linear, tokens: Tensor, heads: int) -> Tensor:
    """Return queries or keys (B, H, T, D) of tokens (B, T, C), multiplied by attention's 1 / √D.

    The factor is applied here because there are fewer tokens than scores.
    """
    x = split_heads(projection(tokens), heads)
    return x / math.sqrt(x.shape[-1])


def shared_scores(x: Tensor, cells: Tensor) -> Tensor:
    """Return the scores (B, H · T, N) of x (B, H, T, D) with cells (H, D, N) that all boxes share."""
    return torch.einsum("bhtd,hdn->bhtn", x, cells).flatten(1, 2)


def box_scores(x: Tensor, projection: nn.Linear, features: Tensor, positions: Tensor) -> Tensor:
    """Return the scores (B, H · T, N) of tokens with each box's own features, without projecting the features.

    Args:
        x: (B, H, T, D), projected and scaled tokens.
        projection: Of the features. x is multiplied by its weight instead.
        features: (B, N, C).
        positions: (H, D, N), the projection of the positional encoding, with the projection's bias.
    """
    folded = torch.einsum("bhtd,hdc->bhtc", x, projection.weight.unflatten(0, (x.shape[1], -1)))
    return Products.apply(shared_scores(x, positions), folded.flatten(1, 2), features)  # type: ignore[no-any-return]


class Products(torch.autograd.Function):
    """Scores (B, K, N), plus the products of x (B, K, C) with features (B, N, C): `baddbmm` with a backward of our own.

    Here, the gradient of the features has their memory layout. Autograd's is transposed, and slow to accumulate.
    """

    @staticmethod
    def forward(context: Any, scores: Tensor, x: Tensor, features: Tensor) -> Tensor:
        """Return the scores (B, K, N). Follows autocast."""
        context.save_for_backward(x, features)
        return torch.baddbmm(scores, x, features.transpose(1, 2))

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the gradients of scores, x and features."""
        x, features = context.saved_tensors
        return gradient, torch.bmm(gradient, features), torch.bmm(gradient.transpose(1, 2), x)


def attend_to_shared(attention: Attention, image: ImageFeatures, tokens: Tensor) -> Tensor:
    """Return what tokens (B, T, C) take from an image whose features their boxes still share, (B, T, C).

    The tokens of all boxes are queries of one attention.
    """
    queries = scaled_heads(attention.q_proj, tokens, image.heads).transpose(0, 1).flatten(1, 2)  # H BT D
    means = torch.bmm(torch.bmm(queries, image.keys).softmax(dim=-1), image.values)
    by_box = means.unflatten(1, (len(tokens), -1)).permute(1, 2, 0, 3)  # B T H D
    attended: Tensor = attention.out_proj(by_box.flatten(2))
    return attended


def attend(attention: Attention, tokens: Tensor, features: Tensor, positions: Tensor) -> Tensor:
    """Return what tokens (B, T, C) take from their own box's features (B, N, C), (B, T, C).

    Features are averaged first, and only the averages are projected. `positions` are as of `box_scores`.
    """
    queries = scaled_heads(attention.q_proj, tokens, attention.num_heads)
    scores = box_scores(queries, attention.k_proj, features, positions)
    means = torch.bmm(scores.softmax(dim=-1), features).unflatten(1, (attention.num_heads, -1))  # B H T C
    weight = attention.v_proj.weight.unflatten(0, (attention.num_heads, -1))
    values = torch.einsum("bhtc,hdc->bthd", means, weight).flatten(2) + attention.v_proj.bias
    attended: Tensor = attention.out_proj(values)
    return attended


def update(attention: Attention, scores: Tensor, tokens: Tensor, features: Tensor) -> Tensor:
    """Return features (B, N, C) plus what each cell takes from its box's tokens.

    Values and output projection are multiplied first, as there are few tokens. Each head's attention weights sum to one
    in every cell, so each head's values can carry 1 / H of the output's bias.

    Args:
        attention: Image to tokens.
        scores: (B, H · T, N), of `shared_scores` or `box_scores`.
        tokens: (B, T, C).
        features: (B, N, C), or (N, C) if all boxes share them.
    """
    heads = attention.num_heads
    shares = scores.unflatten(1, (heads, -1)).softmax(dim=2).flatten(1, 2)  # B HT N
    values, weight = split_heads(attention.v_proj(tokens), heads), attention.out_proj.weight.unflatten(1, (heads, -1))
    outputs = torch.einsum("bhtd,chd->bhtc", values, weight).flatten(1, 2) + attention.out_proj.bias / heads
    return torch.baddbmm(features, shares.transpose(1, 2), outputs)


def update_shared(attention: Attention, image: ImageFeatures, tokens: Tensor, encoding: Tensor) -> Tensor:
    """Return the first update of an image's shared features: each box's own features (B, N, C)."""
    keys = scaled_heads(attention.k_proj, tokens + encoding, image.heads)
    return update(attention, shared_scores(keys, image.queries), tokens, image.features)


def upscale(layers: nn.Sequential, features: Tensor, kernels: Tensor) -> Tensor:
    """Upscale features (B, h, w, C) as SAM does, and return their products (B, 4h, 4w) with kernels (B, C / 8)."""
    x = upscaled_cells(layers, features)
    return join_cells(torch.bmm(x.flatten(1, 3), kernels[:, :, None]).view(x.shape[:4]))


def upscale_cells(layers: nn.Sequential, features: Tensor, kernels: Tensor, cells: Tensor) -> Tensor:
    """Return what `upscale` does where `cells` (B, h, w) bool are true, and `OUTSIDE` elsewhere.

    The cells of all boxes go through the layers together.
    """
    # `non_blocking`, so that the processor does not wait for a GPU
    at = tuple(index.to(features.device, non_blocking=True) for index in cells.nonzero(as_tuple=True))
    rows = features[at]
    padded = F.pad(rows, (0, 0, 0, -len(rows) % ROW)).view(-1, 1, ROW, rows.shape[1])
    runs = upscaled_cells(layers, padded).flatten(0, 2)[: len(rows)].split(cells.sum((1, 2)).tolist())
    pixels = torch.cat([run @ kernel for run, kernel in zip(runs, kernels, strict=True)])
    logits = pixels.new_full((*cells.shape, pixels.shape[1]), OUTSIDE)
    logits[at] = pixels
    return join_cells(logits)


def upscaled_cells(layers: nn.Sequential, features: Tensor) -> Tensor:
    """Return the 16 pixels (B, h, w, 16, C / 8) that SAM's output upscaling makes of each cell of (B, h, w, C).

    The stride of its transposed convolutions is their kernel's side, so a cell does not affect other cells' pixels.
    """
    enlarge, norm, activate, enlarge_again, activate_again = layers
    assert isinstance(norm, LayerNorm2d)  # over channels; with channels last, the fused `layer_norm` is the same
    x = transposed_convolution(enlarge, features).unflatten(3, (4, -1))
    x = activate(F.layer_norm(x, norm.weight.shape, norm.weight, norm.bias, norm.eps))
    x = activate_again(transposed_convolution(enlarge_again, x.flatten(2, 3)))  # B h w·4 4·C/8
    pixels: Tensor = x.unflatten(2, (-1, 4)).unflatten(4, (4, -1)).flatten(3, 4)
    return pixels


def transposed_convolution(enlarge: nn.Module, x: Tensor) -> Tensor:
    """Return a 2 × 2 transposed convolution of x (B, h, w, C), computed as a 1 × 1 convolution.

    The result (B, h, w, 4 · C) holds the channels of the four pixels of each cell.
    """
    assert isinstance(enlarge, nn.ConvTranspose2d)
    assert enlarge.bias is not None
    weight = enlarge.weight.permute(2, 3, 1, 0).flatten(0, 2)
    # For each new number of cells, cuDNN takes one millisecond to choose an algorithm, and two in the backward.
    if x.is_cuda:
        return F.linear(x, weight, enlarge.bias.repeat(4))
    return F.conv2d(x.permute(0, 3, 1, 2), weight[:, :, None, None], enlarge.bias.repeat(4)).permute(0, 2, 3, 1)


def join_cells(pixels: Tensor) -> Tensor:
    """Return an image (B, 4h, 4w) from the 16 pixels (B, h, w, 16) of each cell, in the order of `upscaled_cells`."""
    placed: Tensor = pixels.unflatten(3, (2, 2, 2, 2)).permute(0, 1, 3, 5, 2, 4, 6)  # B h y y' w x x'
    return placed.flatten(4, 6).flatten(1, 3)
