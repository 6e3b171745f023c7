"""What a training step is made from: tiles of one or several data sets, and objects with loose boxes."""

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

# What a seed is for. NumPy takes [s, e] and [s, e, 0] for the same: the first of several data sets draws as one alone.
ORDER, OBJECTS, MIXING = 1, 2, 3
FAR = 2**32  # more tiles than there are: between the numbers of two turns of a tile


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
class TrainingSet:
    """A data set that a model is trained on."""

    source: LabelledTiles
    objects: pd.DataFrame  # rows of its table of boxes that are of the training split
    share: float  # of the tiles of an epoch; only shares relative to each other count


@dataclass(frozen=True)
class Draw:
    """A tile's turn in an epoch."""

    source: LabelledTiles
    tile: int
    objects: pd.DataFrame  # of the tile
    number: int  # that seeds the turn; the tile's own number, if there is one data set


def draw_epoch(sets: Sequence[TrainingSet], train: TrainConfig, seed: int, epoch: int) -> list[Draw]:
    """Return the tiles of an epoch in random order.

    `tiles_per_epoch` tiles, by default as many as there are, are divided between the data sets by their shares. A data
    set with fewer tiles than its part is gone through again; another turn of a tile draws other objects and boxes.
    """
    tiles = [list(by_tile(each.objects)) for each in sets]
    total = sum(map(len, tiles))
    wanted = train.tiles_per_epoch or total
    if len(sets) == 1:
        wanted = min(wanted, total)
    edges = np.cumsum([0.0, *(each.share for each in sets)])
    counts = np.diff(np.round(edges / edges[-1] * wanted)).astype(int)
    draws, first = [], 0  # number of the data set's first tile
    for number, (each, choices, count) in enumerate(zip(sets, tiles, counts, strict=True)):
        rng = np.random.default_rng([seed, ORDER, epoch, number])
        turns = range(-(-count // len(choices)))
        order = [place for turn in turns for place in rng.permutation(len(choices)) + turn * len(choices)][:count]
        for turn, index in (divmod(int(place), len(choices)) for place in order):
            tile, objects = choices[index]
            draws.append(Draw(each.source, tile, objects, first + tile + turn * FAR))
        first += len(each.source.tiles)
    if len(sets) > 1:
        np.random.default_rng([seed, MIXING, epoch]).shuffle(draws)
    return draws


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
    """Draw objects of a tile, at most `objects_per_tile`, and a loose box for each."""
    source, tile = draw.source, draw.tile
    rng = np.random.default_rng([seed, OBJECTS, epoch, draw.number])
    chosen = draw.objects.iloc[rng.permutation(len(draw.objects))[: config.train.objects_per_tile]]
    exact = chosen[XYXY].to_numpy(np.float32)
    prompts = clip(draw_boxes(rng, exact, config), source.tiles.shape(tile))
    masks = torch.from_numpy(source.masks(tile, chosen)).to(device())
    return Batch(source.embeddings[tile].to(device()), prompts, exact, masks)
