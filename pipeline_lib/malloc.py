"""How the process keeps the memory that tensors gave back."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
KEPT = 2**30  # bytes, more than a stage's tensors come and go with
LARGEST = 2**25  # bytes, the most that mallopt(3) takes


def keep_freed_memory() -> None:
    """Have glibc hand freed tensors out again, and not give them back to the system; elsewhere do nothing.

    By itself it may, by what came before, map large tensors anew each time, and the system clears them page by page as
    they are first written, which takes longer than many an operation on them. What the process holds at its peak it
    then holds to its end. Tensors above `LARGEST` are mapped anew nevertheless.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option:
        set_option(M_MMAP_THRESHOLD, LARGEST)
        set_option(M_TRIM_THRESHOLD, KEPT)
