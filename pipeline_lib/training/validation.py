"""Score held-out objects after each epoch, to choose the best epoch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.data.boxes import by_tile, deviated
from pipeline_lib.data.masks import iou
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.training.sampling import LabelledTiles

MASKS = 64  # masks of a tile that are in memory together, each as large as a tile


@dataclass(frozen=True)
class Validation:
    """The held-out objects of a data set, with the same boxes in every epoch and for every model."""

    source: LabelledTiles
    table: pd.DataFrame  # boxes of the objects
    levels: tuple[int, ...]  # of deviation, per cent
    dataset: str
    seed: int
    deviation: Deviation

    def miou(self, predictor: Predictor, pause: Callable[[], None]) -> float:
        """Return the mean IoU over objects and levels, at the resolution of the tiles. Call `pause` after each tile."""
        ious = []
        for tile, rows in by_tile(self.table):
            ious.append(self.ious(predictor, tile, rows))
            pause()
        return float(np.concatenate(ious, axis=1).mean())

    def ious(self, predictor: Predictor, tile: int, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Return the IoU (L, N) of a tile's N objects at L levels."""
        shape, truths = self.source.tiles.shape(tile), self.source.masks(tile, rows)
        prompts = [deviated(rows, level, self.dataset, self.seed, self.deviation, shape) for level in self.levels]
        boxes, objects = np.concatenate(prompts), np.tile(np.arange(len(rows)), len(self.levels))
        (view,) = predictor.views([self.source.embeddings[tile]], [shape])
        ious = []
        for start in range(0, len(boxes), MASKS):
            part = slice(start, start + MASKS)
            masks, _ = predictor.predict([view] * len(boxes[part]), boxes[part])
            ious.append(iou(np.stack(masks), truths[objects[part]]))
        return np.concatenate(ious).reshape(len(self.levels), len(rows))


def mean_miou(validations: Sequence[Validation], predictor: Predictor, pause: Callable[[], None]) -> float:
    """Return the mean over data sets of their mean IoU. Data sets have equal weight, whatever their sizes."""
    return mean(validation.miou(predictor, pause) for validation in validations)
