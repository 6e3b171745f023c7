"""Iterated inference (K): a mask's bounding box is prompted again until the mask stops changing.

The image encoder has no part in it: every iteration prompts the same embedding. Objects of several tiles are iterated
together, so that those few that need many iterations still fill the decoder's calls.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import Mask, largest_component, rectangle, to_rle
from pipeline_lib.inference.predictor import Boxes, Decoder
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.runtime.device import clock, device

# From boxes (N, 4), and the number of the object that each is of, ascending, to masks YX and predicted IoU (N).
Predict = Callable[[Sequence[int], Boxes], tuple[Sequence[Mask], NDArray[np.float32]]]


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
