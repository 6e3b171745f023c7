"""Images to embeddings, ours and others': `python -m benchmarks.encode [--rounds 5]`.

C: one image of 1,024 × 1,024 pixels through the encoder of a `vit_b` with random weights, and one through the shipped
`micro` at its own size; same weights and the same normalised image for all. What they achieve is compared with products
of large matrices in the same run. The peer comes by `pip install .[peers]`.
"""

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from typing import cast

import torch
from segment_anything.modeling import Sam
from torch import Tensor

from benchmarks import peers
from benchmarks.decode import random_sam, released_sam
from benchmarks.limit import PRECISIONS, encoder_flops, peaks, products
from benchmarks.report import Seconds, by_operator, interleaved, machine, table, write_section
from pipeline_lib.model import image_encoder
from pipeline_lib.runtime.device import Precision, autocast, device
from pipeline_lib.runtime.malloc import keep_freed_memory

Way = Callable[[], Tensor]
Peak = Mapping[Precision, float]  # FLOP per second of `clock`, by precision


def in_precision(precision: Precision, forward: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """A forward with its matrix products in float32 or bfloat16."""
    with autocast(precision):
        return forward(images)


def ways_of_vit_b(sam: Sam, images: Tensor) -> tuple[dict[str, Way], list[str]]:
    """Every way from an image to its embedding by name, the reference first; and a line for a peer that is absent."""
    forwards, skipped = {"`ImageEncoderViT`": sam.image_encoder}, []
    try:
        forwards["`transformers` `SamModel`"] = peers.transformers_encoder(sam)
    except ImportError as error:
        skipped.append(f"`transformers`: skipped, {error}")
    forwards["ours"] = partial(image_encoder.encode, sam.image_encoder)
    return {
        f"{name}, {precision}": partial(in_precision, precision, forward, images)
        for precision in PRECISIONS
        for name, forward in forwards.items()
    }, skipped


def kept(way: Way, outputs: dict[str, Tensor], name: str) -> None:
    """Go a way, and keep where it led."""
    outputs[name] = way()


def rows_of(outputs: Mapping[str, Tensor], seconds: Mapping[str, Seconds], work: int, peak: Peak) -> list[list[str]]:
    """Times of an image, speed and error with regard to the first way, and the share of the peak."""
    (first, expected), *_ = outputs.items()
    return [
        [
            name,
            f"{seconds[name].busy:.3f}",
            f"{1 / seconds[name].busy:.3f}",
            f"× {seconds[first].busy / seconds[name].busy:.2f}",
            f"{seconds[name].wall:.3f}",
            f"{work / seconds[name].busy / peak[cast(Precision, name.rpartition(' ')[2])]:.0%}",
            f"{float((embedding - expected).norm() / expected.norm()):.1e}",
        ]
        for name, embedding in outputs.items()
    ]


def measure(title: str, ways: Mapping[str, Way], work: int, rounds: int) -> str:
    """A backbone's table under its title, after one of the peaks in the same run."""
    large = products()
    outputs: dict[str, Tensor] = {}
    calls = {name: partial(kept, way, outputs, name) for name, way in ways.items()}
    seconds = interleaved({**calls, **large}, rounds)
    peak, said = peaks(large, seconds)
    columns = ["way", "CPU s a tile", "tiles a CPU s", "speed", "wall s", "of the peak", "relative error"]
    return f"**{title}; {work / 1e9:.0f} GFLOP**\n\n{table(columns, rows_of(outputs, seconds, work, peak))}\n\n{said}"


def attending(rounds: int) -> str:
    """The two ways to attend in a block of vit_b: with windows, of which an image has 25, and without."""
    blocks = random_sam("vit_b").image_encoder.blocks
    calls: dict[str, Way] = {}
    for precision, (block, images, side, own) in product(
        PRECISIONS, [(blocks[0], 25, 14, image_encoder.at_once), (blocks[2], 1, 64, image_encoder.in_pieces)]
    ):
        q, k, v = torch.randn(3, images, 12, side, side, 64, device=device(), dtype=getattr(torch, precision))
        with autocast(precision):
            rows, columns = image_encoder.relative_positions(block.attn, q)
        for way in (image_encoder.fused, own):
            attend = partial(way, k=k, v=v, rows=rows, columns=columns)
            name = f"{side} × {side} cells, `{way.__name__}`, {precision}"
            calls[name] = partial(in_precision, precision, attend, q)
    seconds = interleaved(calls, rounds)
    lines = [[name, f"{1000 * each.busy:.0f}", f"{1000 * each.wall:.0f}"] for name, each in seconds.items()]
    return "**Attention alone, in a block of vit_b**\n\n" + table(["way", "CPU ms", "wall ms"], lines)


def encoding(rounds: int) -> str:
    """Benchmark C."""
    vit_b, skipped = ways_of_vit_b(random_sam("vit_b"), normalised(1024))
    forward = released_sam("micro").image_encoder
    micro = {f"its own, {each}": partial(in_precision, each, forward, normalised(256)) for each in PRECISIONS}
    return "\n\n".join(
        [
            measure("C. 1,024 × 1,024 pixels, vit_b with random weights", vit_b, encoder_flops("vit_b"), rounds),
            *skipped,
            *(f"**Ours, {each}, by operator**: {by_operator(vit_b[f'ours, {each}'])}." for each in PRECISIONS),
            attending(rounds),
            measure("256 × 256 pixels, shipped micro", micro, encoder_flops("micro"), rounds),
        ]
    )


def normalised(side: int) -> Tensor:
    """An image of noise (1, 3, side, side), its channels equal, as `Sam.preprocess` would leave it."""
    return torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1).to(device())


def main() -> None:
    """Measure, and write the README's section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the stages do
    with torch.inference_mode():
        text = encoding(arguments.rounds)
    write_section("encode", f"{machine()}; medians of {arguments.rounds} rounds.\n\n{text}")


if __name__ == "__main__":
    main()
