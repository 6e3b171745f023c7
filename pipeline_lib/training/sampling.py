"""Draw the inputs of training steps: tiles of one or several data sets, and objects with loose boxes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.data.boxes import XYXY, by_tile, clip, deviate, moved
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import Mask
from pipeline_lib.data.measured_deviations import read_moves
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.device import device
from pipeline_lib.settings.boxes import MeasuredMix
from pipeline_lib.settings.training import TrainConfig, TrainingConfig

# Purposes of random numbers, which are part of their seeds. For NumPy, [s, e] and [s, e, 0] are the same seed, so the
# first of several data sets draws the same as a single data set.
ORDER, OBJECTS, MIXING = 1, 2, 3
FAR = 2**32  # difference between the numbers of two draws of a tile; larger than any number of tiles


@dataclass(frozen=True)
class LabelledTiles:
    """Tiles with labels and embeddings, which are read from disk when they are needed."""

    tiles: Store
    embeddings: Embeddings
    frame: Frame

    def masks(self, tile: int, rows: pd.DataFrame) -> Mask:
        """Return the masks (N, h, w) bool of the objects in N rows of a tile's table of boxes."""
        masks: Mask = self.tiles.objects(tile) == rows["object"].to_numpy()[:, None, None]
        return masks


@dataclass(frozen=True)
class TrainingSet:
    """A data set that a model is trained on."""

    source: LabelledTiles
    objects: pd.DataFrame  # rows of its table of boxes with the split "train"
    share: float  # of the tiles of an epoch, relative to the shares of the other data sets


@dataclass(frozen=True)
class Draw:
    """A draw of a tile in an epoch."""

    source: LabelledTiles
    tile: int
    objects: pd.DataFrame  # of the tile
    number: int  # seeds the draw; with a single data set, the first draw of a tile has the number of the tile


def draw_epoch(sets: Sequence[TrainingSet], train: TrainConfig, seed: int, epoch: int) -> list[Draw]:
    """Return the tiles of an epoch in random order.

    `tiles_per_epoch` tiles (by default as many as there are) are divided between the data sets by their shares. If a
    data set has fewer tiles than its part, its tiles are drawn several times, each time with other objects and boxes.
    """
    tiles = [list(by_tile(each.objects)) for each in sets]
    total = sum(map(len, tiles))
    length = train.tiles_per_epoch or total
    if len(sets) == 1:
        length = min(length, total)
    edges = np.cumsum([0.0, *(each.share for each in sets)])
    counts = np.diff(np.round(edges / edges[-1] * length)).astype(int)  # draws of each data set
    draws, first = [], 0  # number of the data set's first tile
    for number, (each, choices, count) in enumerate(zip(sets, tiles, counts, strict=True)):
        rng = np.random.default_rng([seed, ORDER, epoch, number])
        rounds = math.ceil(count / len(choices))
        order = [(turn, index) for turn in range(rounds) for index in rng.permutation(len(choices))]
        for turn, index in order[:count]:
            tile, objects = choices[index]
            draws.append(Draw(each.source, tile, objects, first + tile + turn * FAR))
        first += len(each.source.tiles)
    if len(sets) > 1:
        np.random.default_rng([seed, MIXING, epoch]).shuffle(draws)
    return draws


@dataclass(frozen=True)
class Batch:
    """Some objects of one tile, with their boxes in pixels of the tile (XYXY)."""

    embedding: Tensor  # (1, 256, g, g) float32
    prompts: NDArray[np.float32]  # (N, 4), loose boxes
    exact: NDArray[np.float32]  # (N, 4), exact boxes
    masks: Tensor  # (N, h, w) bool


def draw_boxes(rng: Generator, exact: NDArray[np.float32], config: TrainingConfig) -> NDArray[np.float32]:
    """Draw a loose box for each exact box (N, 4), as `config.mix` says: by kinds and levels, or as measured.

    Boxes are not yet cut at the tile's border.
    """
    mix, deviation = config.mix, config.deviation
    if isinstance(mix, MeasuredMix):
        moves = read_moves(mix.deviations)
        return moved(exact, moves[rng.integers(len(moves), size=len(exact))])
    shares = np.divide(mix.shares, np.sum(mix.shares))
    levels, uniform = rng.choice(mix.levels, len(exact), p=shares), rng.random((len(exact), 4))
    deviations = [deviation.model_copy(update={"kind": kind}) for kind in mix.kinds or (deviation.kind,)]
    by_kind = np.stack(
        [deviate(exact, np.minimum(levels, mix.limits.get(each.kind, 100)), uniform, each) for each in deviations]
    )
    return by_kind[rng.integers(len(by_kind), size=len(exact)), np.arange(len(exact))]


def draw_batch(draw: Draw, config: TrainingConfig, seed: int, epoch: int) -> Batch:
    """Draw at most `objects_per_tile` objects of a tile, and a loose box for each."""
    source, tile = draw.source, draw.tile
    rng = np.random.default_rng([seed, OBJECTS, epoch, draw.number])
    rows = draw.objects.iloc[rng.permutation(len(draw.objects))[: config.train.objects_per_tile]]
    exact = rows[XYXY].to_numpy(np.float32)
    prompts = clip(draw_boxes(rng, exact, config), source.tiles.shape(tile))
    masks = torch.from_numpy(source.masks(tile, rows)).to(device())
    return Batch(source.embeddings[tile].to(device()), prompts, exact, masks)
