"""Keep the memory of freed tensors in the process."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Make glibc reuse the memory of tensors that the main thread has freed. Without glibc, do nothing.

    By default, glibc returns the memory of large tensors to the system. The system then clears the pages of each new
    tensor, which takes longer than many operations on it. The cost: the process keeps its peak memory until its end,
    and fragmentation makes this peak higher.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option:
        set_option(M_MMAP_MAX, 0)  # not M_MMAP_THRESHOLD, which takes 32 MiB at most
        set_option(M_TRIM_THRESHOLD, -1)  # never
