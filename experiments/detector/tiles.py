"""Tiles of a data set as the detector sees them: grey images with the boxes of their objects."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.data.boxes import XYXY, read_boxes
from pipeline_lib.data.dataset import Store


class Tiles:
    """The tiles of a data set, of a folder of results that has the stages convert and boxes."""

    def __init__(self, results: Path, dataset: str) -> None:
        self.store = Store.open(results / "convert" / f"{dataset}.zarr")
        self.boxes = read_boxes(results / "boxes" / f"{dataset}.csv")

    def of_split(self, split: str) -> list[int]:
        """Return the numbers of a split's tiles, those without objects among them."""
        return [tile for tile in range(len(self.store)) if self.store.split(tile) == split]

    def image(self, tile: int) -> NDArray[np.float32]:
        """Return the grey values of a tile (h, w), from 0 to 1."""
        return np.float32(self.store.pixels(tile) / 255)

    def exact(self, tile: int) -> NDArray[np.float32]:
        """Return the exact boxes (N, 4) of a tile's objects: XYXY, half-open, pixels of the tile."""
        return self.boxes.loc[self.boxes["tile"] == tile, XYXY].to_numpy(np.float32)

    def objects(self, split: str) -> pd.DataFrame:
        """Return the objects of a split as `deviations` takes them. Each tile is an image of one slice."""
        table = self.boxes[self.boxes["split"] == split]
        return table.assign(image=table["tile"], slice=0).reset_index(drop=True)


def draw_batch(tiles: Tiles, numbers: list[int], count: int, seed: list[int]) -> Iterator[tuple[Tensor, Mapping]]:
    """Yield random tiles, in random orientation and contrast, each with the target that torchvision expects.

    Args:
        tiles: of the data set.
        numbers: of the tiles to draw from.
        count: number of tiles.
        seed: of all that is random.
    """
    rng = np.random.default_rng(seed)
    for tile in rng.choice(numbers, count):
        image, boxes = tiles.image(tile), tiles.exact(tile)
        if rng.random() < 0.5:
            image, boxes = image.T, boxes[:, [1, 0, 3, 2]]
        if rng.random() < 0.5:
            image, boxes = image[:, ::-1], _mirrored(boxes, image.shape[1], 0)
        if rng.random() < 0.5:
            image, boxes = image[::-1], _mirrored(boxes, image.shape[0], 1)
        image = np.clip((image - 0.5) * rng.uniform(0.7, 1.3) + 0.5 + rng.uniform(-0.1, 0.1), 0, 1)
        target = {"boxes": torch.from_numpy(boxes.copy()), "labels": torch.ones(len(boxes), dtype=torch.int64)}
        yield torch.from_numpy(np.ascontiguousarray(image, np.float32))[None], target


def _mirrored(boxes: NDArray[np.float32], side: int, axis: int) -> NDArray[np.float32]:
    """Return boxes (N, 4) in an image of that side, mirrored along x (axis 0) or y (1)."""
    mirrored = boxes.copy()
    mirrored[:, [axis, axis + 2]] = side - boxes[:, [axis + 2, axis]]
    return mirrored
