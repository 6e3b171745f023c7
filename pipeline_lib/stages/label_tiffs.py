"""Stage label_tiffs: write label images for Fiji, on request."""

from pathlib import Path

from pipeline_lib.data.mask_formats.fiji import LABEL_TIFFS
from pipeline_lib.runtime.atomic import atomic


def label_tiffs(*, labels: str, tiffs: str) -> None:
    """Write each label image as an ImageJ TIFF with the name of its image, a page for each slice.

    Args:
        labels: OME-Zarr of the stage collect.
        tiffs: Folder to write.

    Raises:
        DataError: An image has 2²⁴ objects or more, which ImageJ cannot distinguish.
    """
    with atomic(tiffs) as unfinished:
        LABEL_TIFFS.write(Path(labels), unfinished)
