"""Choose the device and the precision of a job, and measure its time."""

import logging
import time
from pathlib import Path
from statistics import median
from typing import Literal

import torch

from pipeline_lib.settings.base import PrecisionChoice

Precision = Literal["float32", "bfloat16"]

NATIVE = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}  # Linux's names of processor units for bfloat16
SIDE, ROUNDS = 256, 3  # size and number of timed products: 0.1 s in all on a processor that emulates bfloat16

# By default, GPUs round float32 convolutions to ten bits of mantissa, such as those of the encoder's neck.
torch.backends.cudnn.allow_tf32 = False
log = logging.getLogger(__name__)


def device() -> torch.device:
    """Return the first GPU, or the CPU if there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def clock() -> float:
    """Return seconds whose difference between two calls is a duration.

    On a CPU this is the CPU time of all threads, which does not depend on other jobs. With a GPU it is wall time, after
    all queued work is finished.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def autocast(precision: Precision) -> torch.autocast:
    """Return a context in which matrix products are computed in `precision`. Weights stay float32."""
    return torch.autocast(device().type, torch.bfloat16, enabled=precision == "bfloat16")


def choose_precision(choice: PrecisionChoice) -> Precision:
    """Return the precision of this job's matrix products, and log it.

    With `auto` it is bfloat16 if the device has units for it, else float32. This uses the processor's description and
    not a measurement, so that all jobs on machines of a kind choose the same.
    """
    native = multiplies_bfloat16()
    if choice == "auto":
        precision: Precision = "bfloat16" if native else "float32"
        log.info(
            "precision: %s, because this device has %s units for bfloat16", precision, "its own" if native else "no"
        )
        return precision
    log.info("precision: %s, as configured", choice)
    if choice == "bfloat16" and not native:
        log.warning(
            "precision: this device only emulates bfloat16: a matrix product takes %.0f times as long as in float32. "
            "Set `precision: auto` or `float32`",
            slowdown(),
        )
    return choice


def multiplies_bfloat16() -> bool:
    """Return whether the device has units for products of bfloat16, and torch uses them.

    The variable `ATEN_CPU_CAPABILITY=avx2` makes torch ignore them. False on systems other than Linux without a GPU.
    """
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.backends.cpu.get_cpu_capability() not in ("AVX2", "DEFAULT") and bool(NATIVE & processor_flags())


def processor_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> set[str]:
    """Return the features that Linux lists for the first processor; none on other systems."""
    if not cpuinfo.exists():
        return set()
    lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
    features = (words for name, _, words in lines if name.strip() in ("flags", "Features"))  # x86, Arm
    return set(next(features, "").split())


def slowdown() -> float:
    """Measure how many times as long a matrix product takes in bfloat16 as in float32."""
    seconds = {dtype: product_seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    return seconds[torch.bfloat16] / seconds[torch.float32]


def product_seconds(dtype: torch.dtype) -> float:
    """Measure the median time of a square matrix product, without the first one."""
    matrix, seconds = torch.ones(SIDE, SIDE, dtype=dtype, device=device()), []
    for _ in range(1 + ROUNDS):
        start = clock()
        torch.matmul(matrix, matrix)
        seconds.append(clock() - start)
    return median(seconds[1:])
