"""Open the slices of an MRC file."""

import warnings
import weakref
from pathlib import Path
from typing import Any

import dask.array as da
import mrcfile
import numpy as np

from pipeline_lib.data.stored_arrays import lazy

IMOD_STAMP = 1146047817  # number in the header of files that IMOD wrote
IMOD_OFFSET = 152  # bytes before it; IMOD's flags come after it
IMOD_SIGNED = 1  # bit of the flags


def open_mrc(path: Path) -> da.Array:
    """Open an MRC file as a stack ZYX. Rows keep the order of the file; IMOD shows the first row at the bottom."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as the warning for a file that is longer than its header says
        opened = mrcfile.mmap(path, mode="r")
    weakref.finalize(opened.data, opened.close)
    return lazy(str(path), opened.data.view(np.uint8) if _has_unsigned_bytes(opened.header) else opened.data)


def _has_unsigned_bytes(header: Any) -> bool:
    """Return whether IMOD wrote the bytes of an MRC file unsigned.

    By the standard, mode 0 is signed. IMOD has a flag for it (https://bio3d.colorado.edu/imod/doc/mrc_format.txt).
    """
    stamp, flags = np.frombuffer(header.tobytes(), header.mode.dtype, count=2, offset=IMOD_OFFSET)
    return bool(header.mode == 0 and stamp == IMOD_STAMP and not flags & IMOD_SIGNED)
