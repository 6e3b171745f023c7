"""What a training step is made from: objects of tiles, with boxes of their own looseness."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.data.boxes import clip, deviate
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import Mask
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.device import device
from pipeline_lib.training.settings import Recipe

XYXY = ["x0", "y0", "x1", "y1"]


ORDER, OBJECTS = 1, 2  # what a seed is for: NumPy takes [s, e] and [s, e, 0] for the same


@dataclass(frozen=True)
class Source:
    """Images by number: what of them is read from disk when it is needed."""

    tiles: Store
    embeddings: Embeddings
    frame: Frame

    def masks(self, image: int, rows: pd.DataFrame) -> Mask:
        """The objects (N, h, w) of an image that are in some rows of its table of boxes."""
        masks: Mask = self.tiles.objects(image) == rows["object"].to_numpy()[:, None, None]
        return masks


@dataclass(frozen=True)
class Batch:
    """Some objects of one image."""

    embedding: Tensor  # (1, 256, g, g)
    prompts: NDArray[np.float32]  # (N, 4), the loose boxes
    exact: NDArray[np.float32]  # (N, 4)
    masks: Tensor  # (N, h, w) bool


def draw_boxes(rng: Generator, exact: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """Boxes (N, 4) of the recipe's looseness, not yet cut at the image's border."""
    shares = np.divide(recipe.shares, np.sum(recipe.shares))
    levels = rng.choice(recipe.levels, len(exact), p=shares)
    return deviate(exact, levels, rng.random((len(exact), 4)), recipe.law)


def draw_batch(source: Source, image: int, rows: pd.DataFrame, recipe: Recipe, epoch: int) -> Batch:
    """What an image contributes to an epoch: all of its objects, or a random choice of them."""
    rng = np.random.default_rng([recipe.seed, OBJECTS, epoch, image])
    chosen = rows.iloc[rng.permutation(len(rows))[: recipe.objects_per_image]]
    exact = chosen[XYXY].to_numpy(np.float32)
    prompts = clip(draw_boxes(rng, exact, recipe), source.tiles.shape(image))
    masks = torch.from_numpy(source.masks(image, chosen)).to(device())
    return Batch(source.embeddings[image].to(device()), prompts, exact, masks)
