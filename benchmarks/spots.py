"""What each clever spot saves, off and on in turn: `python -m benchmarks.spots [NAME ...] [--rounds 5]`.

A spot is off where its plain equivalent stands in its place. Starts of jobs and the allocator are measured in
interpreters of their own. All on one thread, because threads that wait for a busy core count as busy.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import median
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.decode import alone, in_chunks, random_sam
from benchmarks.encode import in_precision, normalised
from benchmarks.limit import PRECISIONS
from benchmarks.report import in_process, machine, table, timed, write_section
from pipeline_lib.data.boxes import grown
from pipeline_lib.model import image_encoder, mask_decoder
from pipeline_lib.model.box_model import BoxModel
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.mask_decoder import ImageFeatures, scaled, split
from pipeline_lib.model.upstream import Attention
from pipeline_lib.runtime.device import Precision, autocast
from pipeline_lib.runtime.malloc import keep_freed_memory

BOXES = 16  # of a call
Seconds = Callable[[], float]  # runs something and returns its CPU seconds
Case = tuple[str, Seconds, Seconds]  # what is run, with the spot off and on

IMPORT = """
import time
{spot}
import pipeline_lib.stages.refine
print(time.process_time())
"""
BUILD = """
import time, torch
from pipeline_lib.model.backbones import build, on_meta_device
with {spot}:
    build("micro")
print(time.process_time())
"""
DECODE = """
import sys, time, torch
from benchmarks.decode import alone, in_chunks
from pipeline_lib.runtime.malloc import keep_freed_memory
torch.set_num_threads(1)
{spot}
with torch.inference_mode():
    call = *alone("vit_b", sys.argv[1], 64), 16, sys.argv[1]
    in_chunks(*call)
    began = time.process_time()
    in_chunks(*call)
print(time.process_time() - began)
"""


def plain_times(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`times` as torch sends it to its libraries."""
    return F.linear(x, weight, bias)


def plain_scores(x: Tensor, projection: nn.Linear, features: Tensor, positions: Tensor) -> Tensor:
    """`scores_of_own` with the cells projected."""
    cells = F.linear(features, projection.weight).unflatten(-1, (x.shape[1], -1)).permute(0, 2, 3, 1)  # B H D N
    return torch.matmul(x, cells + positions).flatten(1, 2)


def plain_attend(attention: Attention, tokens: Tensor, features: Tensor, positions: Tensor) -> Tensor:
    """`attend` with the cells projected."""
    heads = attention.num_heads
    queries = scaled(attention.q_proj, tokens, heads)
    scores = plain_scores(queries, attention.k_proj, features, positions).unflatten(1, (heads, -1))
    values = split(attention.v_proj(features), heads)
    attended: Tensor = attention.out_proj((scores.softmax(dim=-1) @ values).transpose(1, 2).flatten(2))
    return attended


def plain_update(attention: Attention, scores: Tensor, tokens: Tensor, features: Tensor) -> Tensor:
    """`update` with the cells projected."""
    shares = scores.unflatten(1, (attention.num_heads, -1)).softmax(dim=2).transpose(2, 3)  # B H N T
    taken = (shares @ split(attention.v_proj(tokens), attention.num_heads)).transpose(1, 2).flatten(2)
    updated: Tensor = features + attention.out_proj(taken)
    return updated


def plain_upscale(layers: nn.Sequential, features: Tensor, kernels: Tensor) -> Tensor:
    """`upscale` with the channels first and by transposed convolutions, as segment_anything has them."""
    cells = layers(features.permute(0, 3, 1, 2).contiguous())
    return torch.einsum("bc,bchw->bhw", kernels, cells)


class PlainProducts:
    """`Products` by autograd."""

    @staticmethod
    def apply(scores: Tensor, x: Tensor, features: Tensor) -> Tensor:
        """The same scores."""
        return torch.baddbmm(scores, x, features.transpose(1, 2))


def plain_mask(frame: Frame, logits: Tensor) -> Tensor:
    """`Frame.mask` of a tile whose network's input has no padding, in two steps."""
    enlarged = F.interpolate(logits[:, None], (frame.image_size, frame.image_size), mode="bilinear")
    return F.interpolate(enlarged, frame.tile_shape, mode="bilinear")[:, 0] > 0


def patched(call: Callable[[], object], target: Any, **names: Any) -> tuple[Seconds, Seconds]:
    """A call with some names of a module or class replaced, and as it is."""

    def off() -> float:
        with mock.patch.multiple(target, **names):
            return timed(call).busy

    return off, lambda: timed(call).busy


def starts(code: str, off: str, on: str, *arguments: str) -> tuple[Seconds, Seconds]:
    """Fresh interpreters."""
    return partial(seconds_of, code.format(spot=off), *arguments), partial(seconds_of, code.format(spot=on), *arguments)


def seconds_of(code: str, *arguments: str) -> float:
    """What the code prints."""
    return in_process(code, *arguments).seconds


def put_off() -> Iterator[Case]:
    """segment_anything's `__init__`."""
    yield "start of refine", *starts(IMPORT, "import segment_anything", "")


def without_draws() -> Iterator[Case]:
    """No normal draws on the meta device."""
    yield "micro without weights", *starts(BUILD, 'torch.device("meta")', "on_meta_device()")


def keep_freed() -> Iterator[Case]:
    """The allocator."""
    for precision in PRECISIONS:
        yield f"decoder of vit_b, {precision}", *starts(DECODE, "", "keep_freed_memory()", precision)


def encoder(precisions: tuple[str, ...] = PRECISIONS, **plain: Any) -> Iterator[Case]:
    """A forward of vit_b with one of its functions replaced."""
    forward, pixels = partial(image_encoder.encode, random_sam("vit_b").image_encoder), normalised(1024)
    for precision in PRECISIONS:
        if precision in precisions:
            call = partial(in_precision, precision, forward, pixels)
            yield f"encoder of vit_b, {precision}", *patched(call, image_encoder, **plain)


def decoder(**plain: Any) -> Iterator[Case]:
    """A call of 16 boxes with functions of the decoder replaced."""
    for name in ("micro", "vit_b"):
        for precision in PRECISIONS:
            call = partial(in_chunks, *alone(name, precision, BOXES), BOXES, precision)
            yield f"decoder of {name}, {precision}", *patched(call, mask_decoder, **plain)


def trained(**plain: Any) -> Iterator[Case]:
    """A forward and backward pass of 16 boxes with functions of the decoder replaced."""
    for precision in PRECISIONS:
        with torch.inference_mode(False):
            model, _, boxes = alone("vit_b", precision, BOXES)
            call = partial(forward_and_backward, model.requires_grad_(True), boxes, precision)
            yield f"training of vit_b's decoder, {precision}", *patched(call, mask_decoder, **plain)


def windowed() -> Iterator[Case]:
    """Masks of 16 boxes, a tenth of the tile's side each: whole, and within twice the box."""
    for precision in PRECISIONS:
        with torch.inference_mode(False):
            model, images, boxes = alone("vit_b", precision, BOXES)
            cells = Frame((1024, 1024), 1024).cells(grown(boxes.numpy(), 2.0), 64)
            model.requires_grad_(True)
        for name, call in (
            ("decoder", partial(decoded, model, images, boxes, precision)),
            ("training", partial(forward_and_backward, model, boxes, precision)),
        ):
            off, on = (partial(busy, partial(call, some)) for some in (None, cells))
            yield f"{name} of vit_b, {precision}", off, on


def busy(call: Callable[[], object]) -> float:
    """CPU seconds."""
    return timed(call).busy


def decoded(
    model: BoxModel, images: Sequence[ImageFeatures], boxes: Tensor, precision: Precision, cells: Tensor | None
) -> None:
    """A call without gradients."""
    with autocast(precision):
        model(images, boxes, cells)


def forward_and_backward(model: BoxModel, boxes: Tensor, precision: Precision, cells: Tensor | None = None) -> None:
    """All that pulls at a mask."""
    with torch.inference_mode(False), torch.enable_grad():
        embedding = torch.ones(1, 256, *model.prompt_encoder.image_embedding_size)
        with autocast(precision):
            logits, predicted_iou = model(model.image_features([embedding]) * len(boxes), boxes, cells)
        (logits.float().sigmoid().mean() + predicted_iou.mean()).backward()


def halved() -> Iterator[Case]:
    """One enlargement by two."""
    frame, logits = Frame((512, 512), 1024), torch.randn(BOXES, 256, 256)
    yield f"{BOXES} masks of 512 × 512 pixels, vit_b", *patched(lambda: frame.mask(logits), Frame, mask=plain_mask)


SPOTS: dict[str, tuple[str, Callable[[], Iterator[Case]]]] = {
    "put_off": ("`upstream.put_off`", put_off),
    "draws": ("`_WithoutDraws`", without_draws),
    "malloc": ("`keep_freed_memory`", keep_freed),
    "times": ("`image_encoder.times`", partial(encoder, ("float32",), times=plain_times)),
    "at_once": ("`image_encoder.at_once`", partial(encoder, at_once=image_encoder.fused)),
    "in_pieces": ("`image_encoder.in_pieces`", partial(encoder, in_pieces=image_encoder.fused)),
    "tokens": (
        "weights on the tokens' side",
        partial(decoder, scores_of_own=plain_scores, attend=plain_attend, update=plain_update),
    ),
    "upscale": ("`mask_decoder.upscale`", partial(decoder, upscale=plain_upscale)),
    "upscale_trained": ("`mask_decoder.upscale`", partial(trained, upscale=plain_upscale)),
    "products": ("`mask_decoder.Products`", partial(trained, Products=PlainProducts)),
    "window": ("`refine.window`", windowed),
    "halved": ("`Frame.mask` by two", halved),
}


def measure(spot: str, rounds: int) -> Iterator[list[str]]:
    """A row for each of a spot's cases; the ratio is the median of the rounds'."""
    title, cases = SPOTS[spot]
    for name, off, on in cases():
        off()
        on()
        pairs = [(off(), on()) for _ in range(rounds)]
        seconds = [1000 * median(side) for side in zip(*pairs, strict=True)]
        ratio = median(without / with_it for without, with_it in pairs)
        yield [title, name, *(f"{amount:,.0f}" for amount in seconds), f"× {ratio:.2f}"]


def main() -> None:
    """Measure; of all spots, write the README's section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spots", nargs="*", metavar="NAME", help=f"of {', '.join(SPOTS)}; default: all")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the stages do
    with torch.inference_mode():
        rows = [row for spot in given.spots or SPOTS for row in measure(spot, given.rounds)]
    text = table(["spot", "what is run", "off, CPU ms", "on, CPU ms", "off / on"], rows)
    if given.spots:
        print(text)
    else:
        write_section("spots", f"{machine()}; medians of {given.rounds} pairs.\n\n{text}")


if __name__ == "__main__":
    main()
