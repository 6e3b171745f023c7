"""Stage segment: predict and iterate the masks of the boxes in a shard of a set's windows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline_lib.data.images import Pixels
from pipeline_lib.data.predictions import WINDOWS, write_predictions
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.inference.iterate import Predictions
from pipeline_lib.inference.segmenter import Segmenter, batches_of_windows
from pipeline_lib.runtime.device import choose_precision
from pipeline_lib.runtime.hashing import file_digest, files_digest, key_of
from pipeline_lib.runtime.journal import Journal
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.runtime.overlapped import overlapped
from pipeline_lib.settings.base import PrecisionChoice
from pipeline_lib.settings.inference import RefineConfig


def segment(
    *,
    prompts: str,
    weights: str,
    iterations: str,
    timing: str,
    shard: int,
    shards: int,
    batch: int,
    precision: PrecisionChoice,
    refine: RefineConfig,
    model: str | None = None,
    code: str = "",
) -> None:
    """Write every prediction for the boxes of a shard (`WINDOWS` of `data/predictions.py`).

    Windows are encoded in batches. Meanwhile one thread reads the next batch and another writes the finished masks to a
    journal beside `iterations`. An interrupted run with the same inputs, settings and `code` resumes from the journal.

    Args:
        prompts: folder of the stage prompts.
        weights: manifest of the backbone.
        iterations: Parquet file to write.
        timing: JSON to write, with the seconds and counts of `Timing`.
        shard: number of the shard, from 0.
        shards: number of all shards.
        batch: number of windows in a call of the encoder.
        precision: precision of the matrix products of encoder and decoder.
        refine: how masks are iterated, for this model.
        model: file of the model; None: the backbone as it is.
        code: digest of the code that runs.

    Raises:
        DataError: an image can no longer be read.
        WeightsError: the model is of another backbone.
    """
    keep_freed_memory()
    given, pixels = Prompts.read(prompts), Pixels()
    used_precision = choose_precision(precision)
    windows = np.array_split(np.arange(len(given.windows)), shards)[shard].tolist()
    batches = list(batches_of_windows(windows, given, batch))
    segmenter = Segmenter.load(weights, model, used_precision, refine)
    record = {"model": file_digest(model) if model else None, "precision": used_precision, "engine": segmenter.engine}
    inputs = files_digest(sorted(Path(prompts).iterdir())), file_digest(weights), record
    key = key_of(*inputs, shard, shards, batch, refine.plain(), code)

    def read(numbers: Sequence[int]) -> tuple[Sequence[int], list[NDArray[np.uint8]]]:
        return numbers, [pixels.part(*given.place(number)) for number in numbers]

    def write(predictions: Predictions) -> None:
        journal.add(predictions.piece())

    with Journal(f"{iterations}.unfinished", key) as journal:
        done = len(journal)
        batches_of_predictions = (segmenter.run(given, *part) for part in overlapped(read, batches[done:]))
        for _ in tqdm(overlapped(write, batches_of_predictions), "segment", len(batches), initial=done, mininterval=10):
            pass
        write_predictions(journal, iterations, timing, record, WINDOWS)
