"""The stage `refine`: deviated boxes to masks, and masks to new boxes until the masks stop changing.

The image encoder has no part in it: every pass of an image prompts the same embedding. Objects of several images are
iterated together, so that those few that need many passes still fill the decoder's calls.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow.parquet import ParquetWriter
from tqdm import tqdm

from pipeline_lib.atomic import atomic
from pipeline_lib.boxes import Deviation, deviated, read_boxes
from pipeline_lib.decode import Boxes, Decoder
from pipeline_lib.device import choose_precision, clock, device
from pipeline_lib.embed import Embeddings
from pipeline_lib.errors import DataError
from pipeline_lib.journal import Journal, key_of
from pipeline_lib.malloc import keep_freed_memory
from pipeline_lib.masks import Mask, largest_component, rectangle, to_rle
from pipeline_lib.sam import Backbone, Frame, fingerprint, load_model
from pipeline_lib.store import Store

# From boxes (N, 4), and the number of the object that each is of, ascending, to masks YX and predicted IoU (N).
Predict = Callable[[Sequence[int], Boxes], tuple[Sequence[Mask], NDArray[np.float32]]]

RECORD = b"loosebox"  # metadata of a table of passes, JSON: `model`, the digest of its file; `precision` by stage
SCHEMA = pa.schema(
    {
        "image": pa.int32(),
        "object": pa.int32(),
        "pass": pa.int16(),  # 0: of the deviated box
        "x0": pa.float32(),  # the box that was prompted
        "y0": pa.float32(),
        "x1": pa.float32(),
        "y1": pa.float32(),
        "change_rate": pa.float64(),  # NaN at pass 0
        "predicted_iou": pa.float32(),
        "mask": pa.string(),  # COCO RLE counts
        "output": pa.bool_(),  # this pass's mask is the iterated output
    }
)


@dataclass(frozen=True)
class Rules:
    """When an object's mask counts as final, and what its next box is drawn around."""

    tau: float  # change rate up to which a mask has converged
    passes: int  # at most so many repeated predictions
    largest_component: bool  # draw the box around the mask's largest component only
    output: Literal["last", "best"]  # the pass that counts: the last, or that of the highest predicted IoU


@dataclass(frozen=True)
class Pass:
    """One prediction of one object."""

    box: NDArray[np.float32]  # (4,), as prompted
    mask: Mask  # YX
    predicted_iou: float
    change_rate: float  # changed pixels per pixel of the box; NaN for the first pass


@dataclass
class Timing:
    """What inference at one level took, in seconds of `clock`; the encoder's share is the stage embed's."""

    objects: int = 0
    first_seconds: float = 0.0
    repeated_seconds: float = 0.0
    repeated_predictions: int = 0


def first_passes(predict: Predict, boxes: Boxes) -> list[Pass]:
    """The masks of all objects' boxes as they came."""
    made = predict(range(len(boxes)), boxes)
    return [Pass(box, mask, float(iou), np.nan) for box, mask, iou in zip(boxes, *made, strict=True)]


def iterate(predict: Predict, first: Sequence[Pass], rules: Rules) -> list[list[Pass]]:
    """Prompt with the rectangle of each object's last mask until it settles; returns each object's passes in order.

    Only objects that have not settled are predicted again. An object whose first mask is empty has no rectangle to
    prompt with and stays at its first pass.
    """
    histories = [[start] for start in first]
    active = [number for number, start in enumerate(first) if start.mask.any()]
    for _ in range(rules.passes):
        if not active:
            break
        boxes = np.stack([next_box(histories[number][-1].mask, rules) for number in active])
        for number, box, mask, iou in zip(active, boxes, *predict(active, boxes), strict=True):
            history = histories[number]
            history.append(Pass(box, mask, float(iou), change_rate(mask, history[-1].mask, box)))
        active = [number for number in active if not settled(histories[number], rules.tau)]
    return histories


def next_box(mask: Mask, rules: Rules) -> NDArray[np.float32]:
    """The rectangle (4,) around a mask that is not empty."""
    return rectangle(largest_component(mask) if rules.largest_component else mask)


def change_rate(mask: Mask, previous: Mask, box: NDArray[np.float32]) -> float:
    """Pixels that differ, per pixel of the box that was drawn around the previous mask (the paper's step 4)."""
    x0, y0, x1, y1 = box
    return float(np.count_nonzero(mask ^ previous) / ((x1 - x0) * (y1 - y0)))


def settled(history: Sequence[Pass], tau: float) -> bool:
    """Whether the last mask hardly changed, is empty, or is that of two passes ago and would return forever."""
    last = history[-1]
    repeats = len(history) > 2 and np.array_equal(last.mask, history[-3].mask)
    return last.change_rate <= tau or not last.mask.any() or repeats


def output_of(history: Sequence[Pass], rules: Rules) -> int:
    """The pass whose mask is the output: of those that are not empty the last, or the best; or the first of all."""
    present = [index for index, each in enumerate(history) if each.mask.any()]
    if rules.output == "best":
        return max(present, key=lambda index: history[index].predicted_iou, default=0)
    return max(present, default=0)


def rows_of(objects: pd.DataFrame, histories: Sequence[Sequence[Pass]], rules: Rules) -> Iterator[dict[str, Any]]:
    """The rows of the table of passes, for some rows of the table of boxes."""
    for image, label, history in zip(objects["image"], objects["object"], histories, strict=True):
        output = output_of(history, rules)
        for index, each in enumerate(history):
            yield {
                "image": image,
                "object": label,
                "pass": index,
                **dict(zip(("x0", "y0", "x1", "y1"), each.box, strict=True)),
                "change_rate": each.change_rate,
                "predicted_iou": each.predicted_iou,
                "mask": to_rle(each.mask),
                "output": index == output,
            }


@dataclass(frozen=True)
class Inference:
    """A trained model on a store's images."""

    tiles: Store
    cache: Embeddings
    decoder: Decoder
    rules: Rules

    def of(self, objects: pd.DataFrame, boxes: Boxes) -> dict[str, Any]:
        """All passes of some rows of the table of boxes, as rows of `SCHEMA`, and their `Timing`; prompts (N, 4)."""
        embeddings = {image: self.cache[image].to(device()) for image in objects["image"].unique()}
        started = clock()
        seen = self.decoder.views(embeddings.values(), map(self.tiles.shape, embeddings))
        by_image = dict(zip(embeddings, seen, strict=True))
        views = [by_image[image] for image in objects["image"]]

        def predict(numbers: Sequence[int], boxes: Boxes) -> tuple[Sequence[Mask], NDArray[np.float32]]:
            return self.decoder.predict([views[number] for number in numbers], boxes)

        first = first_passes(predict, boxes)
        middle = clock()
        histories = iterate(predict, first, self.rules)
        repeated = sum(len(history) - 1 for history in histories)
        timing = Timing(len(objects), middle - started, clock() - middle, repeated)
        return {"timing": asdict(timing), "rows": list(rows_of(objects, histories, self.rules))}


def refine(
    *,
    store: str,
    boxes: str,
    embeddings: str,
    weights: str,
    model: str,
    passes: str,
    timing: str,
    dataset: str,
    level: int,
    seed: int,
    deviation: dict[str, Any],
    settings: dict[str, Any],
) -> None:
    """Write every pass of every test object at one level of deviation (`SCHEMA`), and how long they took.

    Objects are iterated so many at a time as the settings' `chunk` says, image after image. Those that are finished are
    kept in a journal beside `passes` until the end, and an interrupted run goes on after the last.

    Raises:
        StaleEmbeddingsError: the embeddings are not those of this store and backbone.
        WeightsError: `model` is not a model of the stage train.
    """
    keep_freed_memory()
    tiles = Store.open(store)
    table = read_boxes(boxes).query("split == 'test'")
    cache = Embeddings.open(embeddings, store, weights)
    frame = Frame(tiles.tile, Backbone.read(weights).image_size)
    precision = choose_precision(settings["precision"])
    record = {"model": fingerprint(model), "precision": {"embed": cache.precision, "refine": precision}}
    decoder = Decoder(load_model(model).to(device()), frame, precision)
    rules = Rules(settings["tau"], settings["passes"], settings["largest_component"], settings["output"])
    inference = Inference(tiles, cache, decoder, rules)
    shapes = [tiles.shape(image) for image in table["image"]]
    prompts = deviated(table, level, dataset, seed, Deviation(**deviation), shapes)
    chunks = [slice(start, start + settings["chunk"]) for start in range(0, len(table), settings["chunk"])]
    key = key_of(dataset, level, seed, deviation, settings, fingerprint(boxes), record, cache.key)
    with Journal(f"{passes}.unfinished", key) as journal:
        for some in tqdm(chunks[len(journal) :], "refine", len(chunks), initial=len(journal), mininterval=10):
            journal.add(inference.of(table.iloc[some], prompts[some]))
        if len(journal) != len(chunks):  # two processes at the same job, where there are no locks
            raise DataError(f"{journal.path}: expected {len(chunks)} pieces, found {len(journal)}; delete it")
        write_outputs(journal, passes, timing, record, images=table["image"].nunique())


def write_outputs(journal: Journal, passes: str, timing: str, record: Mapping[str, Any], images: int) -> None:
    """The table of passes and the summed timing of all images, from the journal, which is not needed any more.

    The table's schema keeps the record of what made it.
    """
    spent: Counter[str] = Counter(images=images)
    schema = SCHEMA.with_metadata({RECORD: json.dumps(record)})
    with atomic(passes) as unfinished, ParquetWriter(unfinished, schema) as writer:
        for piece in journal:
            writer.write_table(pa.Table.from_pylist(piece["rows"], SCHEMA))
            spent.update(piece["timing"])
    with atomic(timing) as unfinished:
        unfinished.write_text(json.dumps(spent) + "\n")
    journal.delete()
