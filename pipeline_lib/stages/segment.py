"""Stage segment: the given boxes of a shard of a set's windows to masks, first and iterated."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline_lib.data.images import Pixels
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.records import record_of, write_iterations
from pipeline_lib.inference.segmenter import Segmenter, alike
from pipeline_lib.runtime.device import choose_precision
from pipeline_lib.runtime.hashing import file_digest, files_digest, key_of
from pipeline_lib.runtime.journal import Journal
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.runtime.overlapped import overlapped

log = logging.getLogger(__name__)


def segment(
    *,
    prompts: str,
    weights: str,
    iterations: str,
    timing: str,
    shard: int,
    shards: int,
    settings: Mapping[str, Any],
    refine: Mapping[str, Any],
    model: str | None = None,
    code: str = "",
) -> None:
    """Write every prediction for a shard's boxes: `SCHEMA`, a `tile` being a window and an `object` a box's number.

    Windows are encoded so many at a time as the settings' `batch` says, while the next ones are read and the last ones'
    masks are written; what is finished is kept in a journal beside `iterations` until the end, and an interrupted run
    of the same `code`, a digest, goes on after it. It does nothing where `iterations` is there and was made from the
    same.

    Args:
        prompts: folder of the stage prompts.
        weights: manifest of the backbone.
        iterations: parquet to write.
        timing: JSON to write, the sums of `Timing`.
        shard: number of the shard, from 0, of `shards` in all.
        shards: see above.
        settings: of the config's section `segment` `batch` and `precision`.
        refine: the section `refine`, as it holds for the model.
        model: of the stage train; None is the backbone as it is.
        code: see above.

    Raises:
        DataError: an image cannot be read any more.
        WeightsError: the model is of another backbone.
    """
    keep_freed_memory()
    given, pixels = Prompts.read(prompts), Pixels()
    precision = choose_precision(settings["precision"])
    own = np.array_split(np.arange(len(given.windows)), shards)[shard].tolist()
    batches = list(alike(own, given, settings["batch"]))
    files = sorted(Path(prompts).iterdir())
    record = {"model": file_digest(model) if model else None, "precision": precision}
    key = key_of(
        files_digest(files), file_digest(weights), record, shard, shards, settings["batch"], dict(refine), code
    )
    if Path(iterations).exists() and record_of(iterations).get("key") == key:
        log.info("%s is there already", iterations)
        return
    segmenter = Segmenter.load(weights, model, precision, refine)

    def read(numbers: Sequence[int]) -> tuple[Sequence[int], list[NDArray[np.uint8]]]:
        return numbers, [pixels.part(*given.place(number)) for number in numbers]

    with Journal(f"{iterations}.unfinished", key) as journal:
        done = len(journal)
        pieces = (segmenter.of(given, numbers, parts) for numbers, parts in overlapped(read, batches[done:]))
        for _ in tqdm(overlapped(journal.add, pieces), "segment", len(batches), initial=done, mininterval=10):
            pass
        write_iterations(journal, iterations, timing, record | {"key": key}, tiles=len(own))
