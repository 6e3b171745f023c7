"""What a training step is made from: objects of tiles, with boxes of their own looseness."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.data.boxes import XYXY, clip, deviate
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import Mask
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.device import device
from pipeline_lib.settings.training import TrainingConfig

ORDER, OBJECTS = 1, 2  # what a seed is for: NumPy takes [s, e] and [s, e, 0] for the same


@dataclass(frozen=True)
class LabelledTiles:
    """Tiles by number: what of them is read from disk when it is needed."""

    tiles: Store
    embeddings: Embeddings
    frame: Frame

    def masks(self, tile: int, rows: pd.DataFrame) -> Mask:
        """The objects (N, h, w) of a tile that are in some rows of its table of boxes."""
        masks: Mask = self.tiles.objects(tile) == rows["object"].to_numpy()[:, None, None]
        return masks


@dataclass(frozen=True)
class Batch:
    """Some objects of one tile."""

    embedding: Tensor  # (1, 256, g, g)
    prompts: NDArray[np.float32]  # (N, 4), the loose boxes
    exact: NDArray[np.float32]  # (N, 4)
    masks: Tensor  # (N, h, w) bool


def draw_boxes(rng: Generator, exact: NDArray[np.float32], config: TrainingConfig) -> NDArray[np.float32]:
    """Boxes (N, 4) of the training's looseness, not yet cut at the tile's border."""
    mix, deviation = config.mix, config.deviation
    shares = np.divide(mix.shares, np.sum(mix.shares))
    levels, uniform = rng.choice(mix.levels, len(exact), p=shares), rng.random((len(exact), 4))
    deviations = [deviation.model_copy(update={"kind": kind}) for kind in mix.kinds or (deviation.kind,)]
    by_kind = np.stack([deviate(exact, levels, uniform, each) for each in deviations])
    return by_kind[rng.integers(len(by_kind), size=len(exact)), np.arange(len(exact))]


def draw_batch(
    source: LabelledTiles, tile: int, rows: pd.DataFrame, config: TrainingConfig, seed: int, epoch: int
) -> Batch:
    """Return what a tile contributes to an epoch: all of its objects, or a random choice of them."""
    rng = np.random.default_rng([seed, OBJECTS, epoch, tile])
    chosen = rows.iloc[rng.permutation(len(rows))[: config.train.objects_per_tile]]
    exact = chosen[XYXY].to_numpy(np.float32)
    prompts = clip(draw_boxes(rng, exact, config), source.tiles.shape(tile))
    masks = torch.from_numpy(source.masks(tile, chosen)).to(device())
    return Batch(source.embeddings[tile].to(device()), prompts, exact, masks)
