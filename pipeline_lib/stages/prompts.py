"""Stage prompts: given boxes are checked, and windows laid around them, before the model runs."""

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.box_checks import checked_boxes
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.table import read_box_files
from pipeline_lib.data.image_files import is_zarr, slice_files
from pipeline_lib.data.images import open_images
from pipeline_lib.data.model_header import check_fits, trained_side
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.readers import check_whole
from pipeline_lib.data.windows import WindowConfig, with_windows
from pipeline_lib.errors import DataError
from pipeline_lib.settings.segment import PromptsConfig

log = logging.getLogger(__name__)


def prompts(
    *,
    weights: str,
    prompts: str,
    images: str,
    boxes: Sequence[str],
    settings: PromptsConfig,
    model: str | None = None,
    files: Sequence[str] = (),
) -> None:
    """Write the images, boxes and windows of a set (`data/prompts.py`).

    Args:
        weights: manifest of the backbone.
        prompts: folder to write.
        images: as of `open_images`.
        boxes: files or folders of boxes, as of `read_box_files`.
        settings: formats, grey values and windows.
        model: that will segment; None is the backbone as it is.
        files: the set's files. Not used here: the rule lists them so that a changed file is noticed.

    Raises:
        DataError: an image or a box cannot be used.
        WeightsError: the model is of another backbone.
    """
    backbone = Backbone.read(weights)
    if model:
        check_fits(model, backbone)
    listed = open_images(images, settings.grey, settings.channel, settings.stack)
    if "images" not in settings.missing_chunks:
        for image in listed:
            check_whole(image.path)
    shapes = {image.name: image.shape for image in listed}
    slices = slice_files(Path(images)) if settings.stack and Path(images).is_dir() and not is_zarr(Path(images)) else []
    named = Images(shapes, slices={file.name: z for z, file in enumerate(slices)})
    records = read_box_files([Path(path) for path in boxes], named, settings.format)
    table = checked_boxes(records, shapes, settings.on_bad_box)
    if (table["reason"] != "").all():
        raise DataError(
            f"{', '.join(boxes)}: none of {len(table)} boxes can be used; the first {table['reason'].iloc[0]}"
        )
    side = settings.window or trained_side(model, backbone)
    config = WindowConfig(side, settings.object_share, settings.margin)
    numbered = table.set_index(pd.RangeIndex(1, len(table) + 1, name="id"))
    result = Prompts(tuple(listed), *with_windows(numbered, listed, config))
    skipped = int((table["reason"] != "").sum())
    log.info("%d boxes in %d images, %d skipped; %d windows", len(table), len(listed), skipped, len(result.windows))
    result.write(prompts)
