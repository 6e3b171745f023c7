"""Stage collect: the masks of all shards become label images, a table, COCO's file and a page to look at."""

import json
from collections.abc import Sequence
from functools import partial

import pandas as pd

from pipeline_lib.data.images import Pixels
from pipeline_lib.data.instances import Instances, coco_file
from pipeline_lib.data.objects_table import objects_table
from pipeline_lib.data.ome_zarr import write_collection, write_image
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.tables import read_table
from pipeline_lib.report.predictions import predictions_page
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.base import PixelSize
from pipeline_lib.settings.segment import Flags


def collect(
    *,
    prompts: str,
    iterations: Sequence[str],
    weights: str,
    labels: str,
    objects: str,
    coco: str,
    page: str,
    name: str,
    pixel_size: PixelSize | None,
    flags: Flags,
    mask_extent: float | None,
    model: str | None = None,
) -> None:
    """Write what people use.

    Args:
        prompts: folder of the stage prompts.
        iterations: parquet files of the stage segment, of all shards.
        weights: manifest of the backbone.
        labels: OME-Zarr to write, an image of the name of each one in the set with its label image `objects`.
        objects: CSV to write, a row for each given box (`objects_table`).
        coco: JSON to write (`coco_file`).
        page: HTML to write.
        name: of the set.
        pixel_size: ZYX, nm; None writes none.
        flags: thresholds of the flags.
        mask_extent: of `refine`, as it holds for the model.
        model: that segmented; None is the backbone as it is.
    """
    given = Prompts.read(prompts)
    history = pd.concat([read_table(path) for path in iterations], ignore_index=True)
    instances, pixels = Instances.of(given, history), Pixels()
    table = objects_table(given, history, flags, mask_extent)
    with atomic(labels) as unfinished:
        write_collection(unfinished, [image.name for image in given.images])
        for image in given.images:
            numbers = partial(instances.numbers, image.name)
            write_image(unfinished / image.name, image.shape, partial(pixels.part, image), numbers, pixel_size)
    with atomic(objects) as unfinished:
        table.to_csv(unfinished, float_format="%.6g")
    with atomic(coco) as unfinished:
        unfinished.write_text(json.dumps(coco_file(instances)) + "\n", encoding="utf-8")
    with atomic(page) as unfinished:
        unfinished.write_text(predictions_page(name, given, history, table, weights, model), encoding="utf-8")
