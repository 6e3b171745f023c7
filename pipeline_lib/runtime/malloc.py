"""How the process keeps the memory that tensors gave back."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Have glibc hand the main thread's freed tensors out again, and not give them back to the system.

    Elsewhere than with glibc, do nothing. By itself it maps large tensors anew each time, and the system clears them
    page by page as they are first written, which takes longer than many an operation on them. What the process holds at
    its peak it then holds to its end, and the peak is higher by holes that no tensor fits.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option:
        set_option(M_MMAP_MAX, 0)  # not M_MMAP_THRESHOLD, which takes 32 MiB at most
        set_option(M_TRIM_THRESHOLD, -1)  # never
