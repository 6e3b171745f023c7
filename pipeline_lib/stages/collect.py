"""Stage collect: write the masks of all shards as label images, COCO files, tables and a page."""

from collections.abc import Sequence

import pandas as pd

from pipeline_lib.data.images import Pixels
from pipeline_lib.data.instances import Instances
from pipeline_lib.data.mask_formats.mask_format import MaskSet
from pipeline_lib.data.mask_formats.table import FROM_MASKS
from pipeline_lib.data.objects_summary import objects_summary
from pipeline_lib.data.objects_table import objects_table
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.tables import read_table
from pipeline_lib.report.predictions import predictions_page
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.base import PixelSize
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.segment import Flags


def collect(
    *,
    prompts: str,
    iterations: Sequence[str],
    weights: str,
    labels: str,
    objects: str,
    summary: str,
    coco: str,
    coco_polygons: str,
    page: str,
    name: str,
    pixel_size: PixelSize | None,
    flags: Flags,
    refine: RefineConfig,
    model: str | None = None,
) -> None:
    """Write the outputs for users: every format in `FROM_MASKS`, the tables and the page.

    Args:
        prompts: Folder of the stage prompts.
        iterations: Parquet files of the stage segment, of all shards.
        weights: Manifest of the backbone.
        labels: OME-Zarr to write, which holds each image under its name, with its label image `objects`.
        objects: CSV to write, with a row for each box (`objects_table`).
        summary: CSV to write, with a row for each image and class (`objects_summary`).
        coco: JSON to write (`coco_file`), with masks as run lengths.
        coco_polygons: JSON to write, with masks as polygons.
        page: HTML to write.
        name: Name of the set.
        pixel_size: ZYX, nm; None: unknown.
        flags: Thresholds of the flags.
        refine: How masks were iterated, cut and chosen.
        model: File of the model that made the masks; None: the backbone as it is.
    """
    given = Prompts.read(prompts)
    history = pd.concat([read_table(path) for path in iterations], ignore_index=True)
    masks = MaskSet(Instances.of(given, history), Pixels().part, pixel_size)
    table = objects_table(masks, history, flags, refine.mask_extent)
    overview = objects_summary(table)
    paths = {"labels": labels, "coco": coco, "coco_polygons": coco_polygons}
    for each in FROM_MASKS:
        with atomic(paths[each.name]) as unfinished:
            each.write(masks, unfinished)
    with atomic(objects) as unfinished:
        table.to_csv(unfinished, float_format="%.6g")
    with atomic(summary) as unfinished:
        overview.to_csv(unfinished, index=False, float_format="%.6g")
    with atomic(page) as unfinished:
        html = predictions_page(name, masks, history, table, labels, weights, model, flags, refine)
        unfinished.write_text(html, encoding="utf-8")
