"""The slices of an MRC file."""

import warnings
import weakref
from pathlib import Path
from typing import Any

import dask.array as da
import mrcfile
import numpy as np

from pipeline_lib.data.stored_arrays import lazy

IMOD_STAMP, IMOD_OFFSET, IMOD_SIGNED = 1146047817, 152, 1  # in a header of MRC: number, its place, bit of the next one


def open_mrc(path: Path) -> da.Array:
    """Open an MRC file. Rows stay in the order of the file, of which IMOD shows the first at the bottom."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as of a file that is longer than its header says
        opened = mrcfile.mmap(path, mode="r")
    weakref.finalize(opened.data, opened.close)
    return lazy(str(path), opened.data.view(np.uint8) if _has_unsigned_bytes(opened.header) else opened.data)


def _has_unsigned_bytes(header: Any) -> bool:
    """Return whether IMOD wrote the bytes of an MRC file unsigned (https://bio3d.colorado.edu/imod/doc/mrc_format.txt).

    Mode 0 is signed by the standard. IMOD says in a flag of its own whether it is.
    """
    stamp, flags = np.frombuffer(header.tobytes(), header.mode.dtype, count=2, offset=IMOD_OFFSET)
    return bool(header.mode == 0 and stamp == IMOD_STAMP and not flags & IMOD_SIGNED)
