"""Iterated inference beside an ensemble at equal cost: `python -m benchmarks.ensemble RESULTS DATASET MODEL`.

Of a finished experiment, objects of the validation split, evenly spaced. The ensemble is that of SAM-U (Deng et al.,
2023): the given box is prompted, and a few more, each of whose edges is moved by a uniform draw of up to so much of its
side; a pixel counts where at least half of the masks have it.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.report import table
from pipeline_lib.data.boxes import Deviation, by_tile, clip, deviated, read_objects
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import Mask, iou
from pipeline_lib.data.records import Backbone, read_record
from pipeline_lib.defaults import default_config
from pipeline_lib.inference.iterate import IterationConfig, first_predictions, iterate, output_of
from pipeline_lib.inference.predictor import Boxes, Predictor, TileFeatures
from pipeline_lib.model.box_model import load_model
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.device import choose_precision, device

LEVELS = (0, 20, 40)
JITTERS = (0.1, 0.2, 0.4)  # of a side
BOXES = 4  # of the ensemble, the given one among them: as many predictions as K needs, about


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


def main() -> None:
    """Print mIoU and predictions of each way at each level."""
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
    training, tiles = read_record(trained)["training"], Store.open(store)
    cache, settings = Embeddings.open(embeddings, store, weights), default_config()["refine"]
    frame = Frame(tiles.tile_shape, Backbone.read(weights).image_size)
    predictor = Predictor(load_model(trained).to(device()), frame, choose_precision("auto"), settings["window"])
    config, rng = IterationConfig.of(settings), np.random.default_rng(0)
    objects = read_objects(boxes, "validation", given.objects)
    found: dict[tuple[str, int], list[float]] = {}
    spent: dict[int, list[int]] = {}
    for number, rows in tqdm(list(by_tile(objects)), "tiles"):
        tile = Tile(predictor, predictor.views([cache[number]], [tiles.shape(number)])[0])
        truths = tiles.objects(number) == rows["object"].to_numpy()[:, None, None]
        for level in LEVELS:
            prompts = deviated(rows, level, given.dataset, 0, Deviation(**training["deviation"]), tile.view.shape)
            histories = iterate(tile.predict, first_predictions(tile.predict, prompts), config)
            made = {
                "first mask": [history[0].mask for history in histories],
                "iterated (K)": [history[output_of(history, config)].mask for history in histories],
            } | {f"{BOXES} boxes, off by up to {jitter:.0%}": tile.vote(rng, prompts, jitter) for jitter in JITTERS}
            for way, masks in made.items():
                found.setdefault((way, level), []).extend(iou(np.stack(masks), truths))
            spent.setdefault(level, []).extend(len(history) for history in histories)
    ways = dict.fromkeys(way for way, _ in found)
    rows_ = [[way, *(f"{np.mean(found[way, level]):.3f}" for level in LEVELS)] for way in ways]
    rows_.append(["predictions of K", *(f"{np.mean(spent[level]):.2f}" for level in LEVELS)])
    print(f"{given.dataset}, {given.model}, {len(objects)} validation objects")
    print(table(["mIoU", *(f"{level} %" for level in LEVELS)], rows_))


if __name__ == "__main__":
    main()
