"""Iterate inference (K): the bounding box of a mask is the next prompt, until the mask stops changing.

The image encoder does not run again: all predictions of a tile use the same embedding. Objects of several tiles are
iterated together, so that the decoder's calls stay large when only a few objects still need iterations.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.data.boxes import XYXY, Boxes
from pipeline_lib.data.masks import Mask, to_rle
from pipeline_lib.inference.next_box import next_box
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.runtime.device import clock, device
from pipeline_lib.settings.inference import RefineConfig

Ending = Literal["converged", "cycle", "empty", "cap"]
# Takes the number of the object of each box, ascending, and boxes (N, 4); returns N masks (YX) and predicted IoU (N).
Predict = Callable[[Sequence[int], Boxes], tuple[Sequence[Mask], NDArray[np.float32]]]


@dataclass(frozen=True)
class Prediction:
    """A prediction for an object: the first one, from its box, or an iteration, from the box of the previous mask."""

    box: NDArray[np.float32]  # (4,), the prompt
    mask: Mask  # YX
    predicted_iou: float
    change_rate: float  # changed pixels per pixel of the box; NaN for the first prediction


@dataclass(frozen=True)
class Timing:
    """Seconds (of `clock`) and counts of inference, without the encoder, which the stage embed times."""

    objects: int = 0
    first_seconds: float = 0.0
    repeated_seconds: float = 0.0
    repeated_predictions: int = 0

    def __add__(self, other: "Timing") -> "Timing":
        return Timing(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def first_predictions(predict: Predict, boxes: Boxes) -> list[Prediction]:
    """Return the first prediction for each box (N, 4)."""
    predicted = predict(range(len(boxes)), boxes)
    return [Prediction(box, mask, float(iou), np.nan) for box, mask, iou in zip(boxes, *predicted, strict=True)]


def iterate(predict: Predict, first: Sequence[Prediction], config: RefineConfig) -> list[list[Prediction]]:
    """Prompt with the box of each object's last mask until its iteration ends.

    Args:
        predict: The network.
        first: First prediction of each object.
        config: Limits of the iteration.

    Returns:
        All predictions of each object in their order, beginning with the first one.
    """
    histories = [[start] for start in first]
    active = [number for number, history in enumerate(histories) if ending(history, config) is None]
    while active:
        boxes = np.stack([next_box(histories[number][-1].mask, config.largest_component) for number in active])
        for number, box, mask, iou in zip(active, boxes, *predict(active, boxes), strict=True):
            history = histories[number]
            history.append(Prediction(box, mask, float(iou), change_rate(mask, history[-1].mask, box)))
        active = [number for number in active if ending(histories[number], config) is None]
    return histories


def change_rate(mask: Mask, previous: Mask, box: NDArray[np.float32]) -> float:
    """Return the number of pixels that differ, per pixel of the previous mask's box (step 4 of the paper)."""
    x0, y0, x1, y1 = box
    return float(np.count_nonzero(mask ^ previous) / ((x1 - x0) * (y1 - y0)))


def ending(history: Sequence[Prediction], config: RefineConfig) -> Ending | None:
    """Return why an object's iteration ends with its last mask, or None if it goes on.

    - `empty`: the mask is empty, so it has no box.
    - `converged`: the mask changed by at most `tau`.
    - `cycle`: the mask equals the one of two iterations ago, so the two would alternate for ever.
    - `cap`: the number of iterations has reached its limit.
    """
    last = history[-1]
    if not last.mask.any():
        return "empty"
    if last.change_rate <= config.tau:
        return "converged"
    if len(history) > 2 and np.array_equal(last.mask, history[-3].mask):
        return "cycle"
    return "cap" if len(history) > config.max_iterations else None


def output_of(history: Sequence[Prediction], config: RefineConfig) -> int:
    """Return the index of the prediction whose mask is the output.

    With `select: last`, it is the last one with a mask. Otherwise it is the one with the highest predicted IoU, if the
    first prediction has no mask or a predicted IoU that is lower by more than `lead`; else it is the first one. If all
    masks are empty, it is the first one.
    """
    present = [index for index, each in enumerate(history) if each.mask.any()]
    if config.select == "last":
        return max(present, default=0)
    best = max(present, key=lambda index: history[index].predicted_iou, default=0)
    lead = history[best].predicted_iou - history[0].predicted_iou
    return best if lead > config.lead or 0 not in present else 0


def rows_of(
    keys: pd.DataFrame, histories: Sequence[Sequence[Prediction]], config: RefineConfig
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the table of predictions: the two columns of `keys`, and `COLUMNS` of `data/predictions.py`."""
    tile_name, box_name = keys.columns
    for tile, box, history in zip(keys[tile_name], keys[box_name], histories, strict=True):
        output = output_of(history, config)
        for index, each in enumerate(history):
            yield {
                tile_name: tile,
                box_name: box,
                "iteration": index,
                **dict(zip(XYXY, each.box, strict=True)),
                "change_rate": each.change_rate,
                "predicted_iou": each.predicted_iou,
                "mask": to_rle(each.mask),
                "output": index == output,
                "ended": ending(history, config) if index == len(history) - 1 else None,
            }


@dataclass(frozen=True)
class Predictions:
    """All predictions for some boxes."""

    rows: list[dict[str, Any]]  # of `TILES` or `WINDOWS` in `data/predictions.py`, depending on the keys
    timing: Timing

    def piece(self) -> dict[str, Any]:
        """Return rows and timing as a piece of a journal."""
        return {"timing": asdict(self.timing), "rows": self.rows}


@dataclass(frozen=True)
class Inference:
    """A trained model that predicts and iterates masks on tiles that are already encoded."""

    predictor: Predictor
    config: RefineConfig

    def run(
        self,
        keys: pd.DataFrame,
        boxes: Boxes,
        embedding: Callable[[int], Tensor],
        shape: Callable[[int], tuple[int, int]],
    ) -> Predictions:
        """Predict and iterate the masks of some boxes.

        Args:
            keys: two columns, the number of each box's tile or window and the number of the box. Boxes of a tile are
                neighbours.
            boxes: (N, 4) float32, XYXY half-open pixels of the tile.
            embedding: returns the embedding of a tile by number, (1, 256, g, g) float32.
            shape: returns the shape of a tile by number, (height, width) in pixels.
        """
        tiles = keys.iloc[:, 0]
        embeddings = {tile: embedding(tile).to(device()) for tile in tiles.unique()}
        started = clock()
        features = self.predictor.views(embeddings.values(), map(shape, embeddings))
        by_tile = dict(zip(embeddings, features, strict=True))
        views = [by_tile[tile] for tile in tiles]

        def predict(numbers: Sequence[int], boxes: Boxes) -> tuple[Sequence[Mask], NDArray[np.float32]]:
            return self.predictor.predict([views[number] for number in numbers], boxes)

        first = first_predictions(predict, boxes)
        middle = clock()
        histories = iterate(predict, first, self.config)
        repeated = sum(len(history) - 1 for history in histories)
        timing = Timing(len(boxes), middle - started, clock() - middle, repeated)
        return Predictions(list(rows_of(keys, histories, self.config)), timing)
