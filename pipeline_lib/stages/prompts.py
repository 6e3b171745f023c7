"""Stage prompts: check the boxes of a set and place windows around them, before the model runs."""

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
        images: folder or stack, as for `open_images`.
        boxes: files or folders of boxes, as for `read_box_files`.
        settings: formats, grey values and windows.
        model: file of the model that will segment; None: the backbone as it is.
        files: the files of the set. The stage does not use them: the rule lists them so that changes are noticed.

    Raises:
        DataError: an image or a box cannot be used.
        WeightsError: the model is of another backbone.
    """
    backbone = Backbone.read(weights)
    if model:
        check_fits(model, backbone)

    # Open the images.
    image_files = open_images(images, settings.grey, settings.channel, settings.stack)
    if "images" not in settings.missing_chunks:
        for image in image_files:
            check_whole(image.path)

    # Read and check the boxes. Files of boxes can name the slices of a stack by their files.
    shapes = {image.name: image.shape for image in image_files}
    folder = Path(images)
    slices = slice_files(folder) if settings.stack and folder.is_dir() and not is_zarr(folder) else []
    images_by_name = Images(shapes, slices={file.name: z for z, file in enumerate(slices)})
    records = read_box_files([Path(path) for path in boxes], images_by_name, settings.format)
    table = checked_boxes(records, shapes, settings.on_bad_box)
    is_bad = table["reason"] != ""
    if is_bad.all():
        raise DataError(
            f"{', '.join(boxes)}: none of {len(table)} boxes can be used; the first one: {table['reason'].iloc[0]}"
        )

    # Place windows around the boxes.
    side = settings.window or trained_side(model, backbone)
    config = WindowConfig(side, settings.object_share, settings.margin)
    numbered = table.set_index(pd.RangeIndex(1, len(table) + 1, name="id"))
    result = Prompts(tuple(image_files), *with_windows(numbered, image_files, config))
    counts = len(table), len(image_files), int(is_bad.sum()), len(result.windows)
    log.info("%d boxes in %d images, %d skipped; %d windows", *counts)
    result.write(prompts)
