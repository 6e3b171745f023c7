"""Iterated inference beside an ensemble of four boxes: `python -m benchmarks.ensemble RESULTS DATASET MODEL`.

Of a finished experiment, objects of the validation split, evenly spaced. The ensemble is that of SAM-U (Deng et al.,
2023): the given box is prompted, and a few more, each of whose edges is moved by a uniform draw of up to so much of its
side; a pixel counts where at least half of the masks have it. Iteration is config.yaml's, whatever the model's own.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.report import table
from pipeline_lib.config.defaults import default_config
from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import by_tile, clip, deviated, read_objects
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import Mask, iou
from pipeline_lib.inference.iterate import IterationConfig, first_predictions, iterate, output_of
from pipeline_lib.inference.predictor import Boxes, Predictor, TileFeatures
from pipeline_lib.model.box_model import load_model
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.device import choose_precision, device
from pipeline_lib.settings.boxes import Deviation

LEVELS = (0, 20, 40)
JITTERS = (0.1, 0.2, 0.4)  # of a side
PREDICTIONS = "predictions of K"
BOXES = 4  # of the ensemble, the given one among them


@dataclass
class Tile:
    """A tile and the objects that are prompted in it."""

    predictor: Predictor
    view: TileFeatures

    def predict(self, numbers: Sequence[int], boxes: Boxes) -> tuple[list[Mask], NDArray[np.float32]]:
        """Masks (h, w) and predicted IoU (N) of boxes (N, 4), whosever they are."""
        return self.predictor.predict([self.view] * len(boxes), boxes)

    def vote(self, rng: np.random.Generator, boxes: Boxes, jitter: float) -> list[Mask]:
        """The ensemble's mask of each box."""
        sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
        moves = rng.uniform(-jitter, jitter, (BOXES, *boxes.shape)) * sides
        moves[0] = 0
        moved = clip(np.asarray(boxes + moves, np.float32).reshape(-1, 4), self.view.shape)
        masks = np.stack(self.predict((), moved)[0]).reshape(BOXES, len(boxes), *self.view.shape)
        return list(masks.mean(axis=0) >= 0.5)


Found = dict[tuple[str, int], list[float]]  # the IoU of each object by way and level


def add(found: Found, tile: Tile, rows: pd.DataFrame, truths: Mask, prompts: Mapping[int, Boxes]) -> None:
    """Add what each way makes of a tile's objects (N, h, w), prompted with the boxes of each level."""
    config, rng = IterationConfig.of(default_config()["refine"]), np.random.default_rng(int(rows["tile"].iloc[0]))
    for level, boxes in prompts.items():
        histories = iterate(tile.predict, first_predictions(tile.predict, boxes), config)
        made = {
            "mIoU of first masks": [history[0].mask for history in histories],
            "iterated (K)": [history[output_of(history, config)].mask for history in histories],
        } | {f"{BOXES} boxes, off by up to {jitter:.0%}": tile.vote(rng, boxes, jitter) for jitter in JITTERS}
        for way, masks in made.items():
            found.setdefault((way, level), []).extend(iou(np.stack(masks), truths))
        found.setdefault((PREDICTIONS, level), []).extend(len(history) for history in histories)


def main() -> None:
    """Print mIoU of each way at each level."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("model", help="of seed 0")
    parser.add_argument("--objects", type=int, default=200)
    given = parser.parse_args()
    store, boxes, embeddings = (
        str(given.results / f"{stage}/{given.dataset}.{suffix}")
        for stage, suffix in (("convert", "zarr"), ("boxes", "csv"), ("embed", "zarr"))
    )
    weights = given.results / "weights/manifest.json"
    trained = given.results / f"train/{given.dataset}/{given.model}/0.safetensors"
    tiles, cache = Store.open(store), Embeddings.open(embeddings, store, weights)
    frame, deviation = (
        Frame(tiles.tile_shape, Backbone.read(weights).image_size),
        Deviation(kind="scale", direction="both"),
    )
    predictor = Predictor(load_model(trained).to(device()), frame, choose_precision("auto"))
    objects, found = read_objects(boxes, "validation", given.objects), Found()
    for number, rows in tqdm(list(by_tile(objects)), "tiles"):
        tile = Tile(predictor, predictor.views([cache[number]], [tiles.shape(number)])[0])
        prompts = {level: deviated(rows, level, given.dataset, 0, deviation, tile.view.shape) for level in LEVELS}
        add(found, tile, rows, tiles.objects(number) == rows["object"].to_numpy()[:, None, None], prompts)
    ways = dict.fromkeys(way for way, _ in found)
    print(f"{given.dataset}, {given.model}, {len(objects)} validation objects")
    lines = [[way, *(f"{np.mean(found[way, level]):.3f}" for level in LEVELS)] for way in ways]
    print(table(["", *(f"{level} %" for level in LEVELS)], lines))


if __name__ == "__main__":
    main()
