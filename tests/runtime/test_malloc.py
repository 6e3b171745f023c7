"""What the system clears of memory that comes and goes."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from pipeline_lib.runtime.malloc import keep_freed_memory
{keep}
def work():
    x = torch.ones(2**24).add(1).mul(2).view(64, -1).softmax(0).exp()  # 64 MiB each
    return x + torch.ones(2**23).exp().repeat(2).view(64, -1)
for _ in range(5):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: str) -> int:
    """Pages that the system clears while tensors come and go."""
    command = [sys.executable, "-c", FAULTS.format(keep=keep)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_tensors_are_not_mapped_anew():
    # not none, as the heap still grows now and then, by a tensor that finds no hole that fits
    assert faults("keep_freed_memory()") < faults("") / 10
