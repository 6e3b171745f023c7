"""Stage track: follow the objects of a volume from the slices of their boxes through the other slices."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import parquet
from tqdm import tqdm

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.images import Pixels
from pipeline_lib.data.model_header import trained_side
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.tables import read_table
from pipeline_lib.data.tracks import TRACKS, Row, check_can_be_followed, first_rows, object_numbers
from pipeline_lib.data.windows import WindowConfig
from pipeline_lib.inference.follow import Follower, follow
from pipeline_lib.inference.segmenter import Segmenter
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.device import choose_precision
from pipeline_lib.runtime.hashing import file_digest, files_digest, key_of
from pipeline_lib.runtime.journal import Journal
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.settings.base import PrecisionChoice
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.segment import PromptsConfig, TrackConfig

log = logging.getLogger(__name__)


def track(
    *,
    prompts: str,
    iterations: Sequence[str],
    weights: str,
    tracks: str,
    shard: int,
    batch: int,
    precision: PrecisionChoice,
    settings: PromptsConfig,
    refine: RefineConfig,
    track: TrackConfig,
    model: str | None = None,
    code: str = "",
) -> None:
    """Write the mask of each object of a shard in each slice (`TRACKS` of `data/tracks.py`).

    Each slice is a piece of a journal beside `tracks`. An interrupted run with the same inputs, settings and `code`
    resumes from the journal.

    Args:
        prompts: Folder of the stage prompts, of one volume.
        iterations: Parquet files of the stage segment, of all shards: the masks in the slices of the boxes.
        weights: Manifest of the backbone.
        tracks: Parquet file to write, by direction and slice.
        shard: Number of the shard, from 0, of `track.shards`.
        batch: Number of windows in a call of the encoder.
        precision: Precision of the matrix products of encoder and decoder.
        settings: How windows are placed.
        refine: How masks are iterated within a slice.
        track: How an object is followed, and when it ends.
        model: File of the model; None: the backbone as it is.
        code: Digest of the code that runs.

    Raises:
        DataError: The images are not one volume, two boxes of an object are on one slice, or a slice cannot be read.
        WeightsError: The model is of another backbone.
    """
    keep_freed_memory()

    # Take the objects of this shard, with their masks in the slices of their boxes.
    given = Prompts.read(prompts)
    check_can_be_followed(given)
    counts = object_numbers(given.boxes).value_counts()
    log.info("%d of %d objects have boxes on several slices", (counts > 1).sum(), len(counts))
    image = given.images[0]
    starts = first_rows(given, pd.concat([read_table(path) for path in iterations], ignore_index=True))
    objects = np.array_split(sorted({row["object"] for row in starts}), track.shards)[shard].tolist()
    starts = [row for row in starts if row["object"] in objects]

    # Identify the job by its inputs and settings.
    used_precision = choose_precision(precision)
    inputs = files_digest([*sorted(Path(prompts).iterdir()), *map(Path, iterations)]), file_digest(weights)
    segmenter = Segmenter.load(weights, model, used_precision, refine)
    record = {"model": file_digest(model) if model else None, "precision": used_precision, "engine": segmenter.engine}
    sections = [each.plain() for each in (settings, refine, track)]
    key = key_of(*inputs, record, shard, batch, sections, code)
    side = settings.window or trained_side(model, Backbone.read(weights))
    windows = WindowConfig(side, settings.object_share, settings.margin)
    follower = Follower(segmenter, image, Pixels().part, windows, batch, track, starts)

    # Follow the objects. Slices that the journal has are not segmented again.
    with (
        Journal(f"{tracks}.unfinished", key) as journal,
        tqdm(desc="track", unit=" slices", mininterval=10) as progress,
    ):
        finished = iter(journal)

        def segment_slice(z: int, direction: int, last: Mapping[int, Row]) -> list[Row]:
            rows: list[Row] | None = next(finished, None)
            if rows is None:
                rows = follower.segment_slice(z, direction, last)
                journal.add(rows)
            progress.update()
            return rows

        follow(starts, image.shape[0], segment_slice)
        write_tracks(tracks, chain([starts], journal))
        journal.delete()


def write_tracks(path: str, pieces: Iterable[Sequence[Row]]) -> None:
    """Write rows of `TRACKS`, piece by piece."""
    with atomic(path) as partial, parquet.ParquetWriter(partial, TRACKS) as file:
        for rows in pieces:
            file.write_table(pa.Table.from_pylist(rows, TRACKS))
