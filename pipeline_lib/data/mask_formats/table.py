"""List all outputs of masks."""

from pathlib import Path
from typing import Any

from pipeline_lib.data.mask_formats.coco import COCO, COCO_POLYGONS
from pipeline_lib.data.mask_formats.fiji import LABEL_TIFFS
from pipeline_lib.data.mask_formats.geojson import GEOJSON
from pipeline_lib.data.mask_formats.mask_format import MaskFormat, MaskSet
from pipeline_lib.data.mask_formats.ome_zarr import OME_ZARR
from pipeline_lib.data.mask_formats.rois import ROIS
from pipeline_lib.data.mask_formats.yolo import YOLO

FROM_MASKS: tuple[MaskFormat[MaskSet], ...] = (OME_ZARR, COCO, COCO_POLYGONS)  # the stage `collect` writes all of them
OUTLINES: tuple[MaskFormat[MaskSet], ...] = (GEOJSON, ROIS, YOLO)  # the stage `outlines` writes one on request
FROM_LABELS: tuple[MaskFormat[Path], ...] = (LABEL_TIFFS,)  # written on request, from the OME-Zarr of label images
FORMATS: tuple[MaskFormat[Any], ...] = (*FROM_MASKS, *OUTLINES, *FROM_LABELS)
