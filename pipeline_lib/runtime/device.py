"""Where a job computes, how its time is taken, and how precisely its matrix products are made."""

import logging
import time
from pathlib import Path
from statistics import median
from typing import Literal

import torch

from pipeline_lib.settings.base import PrecisionChoice

Precision = Literal["float32", "bfloat16"]

NATIVE = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}  # what Linux calls a processor's units for bfloat16
SIDE, ROUNDS = 256, 3  # of the product that is timed: an emulating processor takes a tenth of a second for all

# Else a GPU rounds to ten bits of mantissa in float32 convolutions, as in the encoder's neck and the masks' upscaling.
torch.backends.cudnn.allow_tf32 = False
log = logging.getLogger(__name__)


def device() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def clock() -> float:
    """Seconds, for the difference of two calls: CPU time of all threads, which other jobs do not lengthen.

    Where there is a GPU, wall time after its queue has run empty.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def autocast(precision: Precision) -> torch.autocast:
    """Matrix products in bfloat16 where `precision` says so, and what is added within them; weights stay float32."""
    return torch.autocast(device().type, torch.bfloat16, enabled=precision == "bfloat16")


def choose_precision(asked: PrecisionChoice) -> Precision:
    """The precision of this job's matrix products: as asked, or with `auto` the fastest that is not emulated.

    By what the processor says of itself and not by a measurement, so that all jobs on machines of a kind choose alike.
    """
    native = multiplies_bfloat16()
    if asked == "auto":
        chosen: Precision = "bfloat16" if native else "float32"
        log.info("precision: %s, as this device has %s units for bfloat16", chosen, "its own" if native else "no")
        return chosen
    log.info("precision: %s, as asked", asked)
    if asked == "bfloat16" and not native:
        log.warning(
            "precision: this device only emulates bfloat16: a matrix product in it was measured to take %.0f times as "
            "long as in float32. Set `precision: auto` or `float32`",
            slowdown(),
        )
    return asked


def multiplies_bfloat16() -> bool:
    """Whether the device has units for products of bfloat16, and torch uses them.

    `ATEN_CPU_CAPABILITY=avx2` makes a larger processor a smaller one. A system other than Linux does not tell.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.backends.cpu.get_cpu_capability() not in ("AVX2", "DEFAULT") and bool(NATIVE & processor_flags())


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """What Linux says the first processor can do; nothing on another system."""
    if not cpuinfo.exists():
        return set()
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    found = (words for name, _, words in lines if name.strip() in ("flags", "Features"))  # x86, Arm
    return set(next(found, "").split())


def slowdown() -> float:
    """How many times as long as in float32 a matrix product takes in bfloat16, measured now."""
    seconds = {dtype: product_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return seconds[torch.bfloat16] / seconds[torch.float32]


def product_seconds(dtype: torch.dtype) -> float:
    """The median time of a square matrix product, after one that does not count."""
    matrix, taken = torch.ones(SIDE, SIDE, dtype=dtype, device=device()), []
    for _ in range(1 + ROUNDS):
        started = clock()
        torch.matmul(matrix, matrix)
        taken.append(clock() - started)
    return median(taken[1:])
