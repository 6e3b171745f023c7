"""The table of all outputs of masks."""

from pathlib import Path
from typing import Any

from pipeline_lib.data.mask_formats.coco import COCO
from pipeline_lib.data.mask_formats.fiji import LABEL_TIFFS
from pipeline_lib.data.mask_formats.mask_format import MaskFormat, MaskSet
from pipeline_lib.data.mask_formats.ome_zarr import OME_ZARR

FROM_MASKS: tuple[MaskFormat[MaskSet], ...] = (OME_ZARR, COCO)  # the stage `predict` writes each of them
FROM_LABELS: tuple[MaskFormat[Path], ...] = (LABEL_TIFFS,)  # written on request, from the OME-Zarr of label images
FORMATS: tuple[MaskFormat[Any], ...] = (*FROM_MASKS, *FROM_LABELS)
