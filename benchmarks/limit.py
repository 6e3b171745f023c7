"""F: what the networks' arithmetic asks for, and what the machine gives at most, by products of large matrices."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import Seconds
from pipeline_lib.model.backbones import build
from pipeline_lib.model.box_model import box_model
from pipeline_lib.runtime.device import Precision, device
from pipeline_lib.settings.model import ModelConfig

SIDE = 2048  # of the matrices
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


def products() -> dict[str, Callable[[], Tensor]]:
    """A large matrix product, by precision and by each of the ways that torch has to the processor's libraries."""
    ways: dict[str, Callable[[], Tensor]] = {}
    for precision in PRECISIONS:
        matrix = torch.randn(SIDE, SIDE, device=device(), dtype=getattr(torch, precision))
        rows, weight = matrix.view(64, -1, 1, SIDE).movedim(-1, 1), matrix[:, :, None, None]
        ways[f"`torch.matmul`, {precision}"] = partial(torch.matmul, matrix, matrix.T)
        ways[f"1 × 1 convolution, {precision}"] = partial(F.conv2d, rows, weight)
    return ways


def peaks(large: Iterable[str], seconds: Mapping[str, Seconds]) -> tuple[dict[Precision, float], str]:
    """The faster product's FLOP per second of `clock` in each precision, and a line about all of them, by name."""
    rates = {name: 2 * SIDE**3 / seconds[name].busy for name in large}
    peak = {each: max(rate for name, rate in rates.items() if name.endswith(each)) for each in PRECISIONS}
    said = ", ".join(f"{name}: {rate / 1e9:.0f}" for name, rate in rates.items())
    return peak, f"GFLOP a CPU second of the product of two matrices of {SIDE:,} squared: {said}."


def encoder_flops(backbone: str) -> int:
    """Floating-point operations that a backbone's own encoder needs for an image, counted on its shapes alone."""
    with torch.device("meta"):
        encoder = build(backbone).image_encoder
        with FlopCounterMode(display=False) as counter:
            encoder(torch.empty(1, 3, encoder.img_size, encoder.img_size))
    return int(counter.get_total_flops())


@torch.no_grad()
def decoder_flops(model_config: ModelConfig, boxes: int = 64) -> float:
    """Floating-point operations that our decoder needs for a box, the image's side apart."""
    model = box_model(build("vit_b"), model_config).requires_grad_(False)
    image = model.image_features([torch.zeros(1, 256, 64, 64)])[0]
    with FlopCounterMode(display=False) as counter:
        model([image] * boxes, torch.rand(boxes, 4))
    return float(counter.get_total_flops() / boxes)
