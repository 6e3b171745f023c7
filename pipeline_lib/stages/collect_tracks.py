"""Stage collect_tracks: write the objects of a volume as a label image, two tables and a page."""

from collections.abc import Sequence
from functools import partial

import pandas as pd

from pipeline_lib.data.images import Pixels
from pipeline_lib.data.mask_formats.ome_zarr import Scene, write_scenes
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.tables import read_table
from pipeline_lib.data.track_tables import slices_table, volume_table
from pipeline_lib.data.tracks import Numbers, Tracks
from pipeline_lib.report.tracks import tracks_page
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.base import PixelSize
from pipeline_lib.settings.segment import TrackFlags


def collect_tracks(
    *,
    prompts: str,
    tracks: Sequence[str],
    weights: str,
    labels: str,
    objects: str,
    slices: str,
    page: str,
    name: str,
    pixel_size: PixelSize | None,
    flags: TrackFlags,
    model: str | None = None,
) -> None:
    """Write the outputs for users.

    Args:
        prompts: Folder of the stage prompts.
        tracks: Parquet files of the stage track, of all shards.
        weights: Manifest of the backbone.
        labels: OME-Zarr to write, which holds the volume under its name, with its label image `objects`.
        objects: CSV to write, with a row for each object (`volume_table`).
        slices: CSV to write, with a row for each object in each slice (`slices_table`).
        page: HTML to write.
        name: Name of the set.
        pixel_size: ZYX, nm; None: unknown.
        flags: Thresholds of the flags.
        model: File of the model that made the masks; None: the backbone as it is.
    """
    masks = Tracks(Prompts.read(prompts), pd.concat([read_table(path) for path in tracks], ignore_index=True))
    by_slice = slices_table(masks)
    table = volume_table(masks, by_slice, pixel_size, flags)
    image, pixels = masks.image, Pixels()
    with atomic(labels) as unfinished:
        scene = Scene(image.shape, partial(pixels.part, image), Numbers(masks).block)
        write_scenes(unfinished, {image.name: scene}, pixel_size)
    with atomic(slices) as unfinished:
        by_slice.to_csv(unfinished, index=False, float_format="%.6g")
    with atomic(objects) as unfinished:
        table.to_csv(unfinished, float_format="%.6g")
    with atomic(page) as unfinished:
        html = tracks_page(name, masks, by_slice, table, weights, model, flags)
        unfinished.write_text(html, encoding="utf-8")
