"""Compare iterated inference (K) with an ensemble of four boxes: `python -m benchmarks.ensemble RESULTS DATASET MODEL`.

RESULTS is the folder of a finished experiment. The ensemble is that of SAM-U (Deng et al., 2023): it prompts the box
itself and three more boxes. Each of their edges is moved at random, uniformly up to a share of the box's side. A pixel
belongs to the object if at least half of the masks contain it. Objects are of the validation split, evenly spaced.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.measuring import table
from benchmarks.networks import CONFIG, iterated
from benchmarks.train import TrainingData
from pipeline_lib.data.boxes import Boxes, by_tile, clip, deviated, read_objects
from pipeline_lib.data.masks import iou
from pipeline_lib.inference.iterate import output_of
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.box_model import load_model
from pipeline_lib.runtime.device import choose_precision, device

LEVELS = (0, 20, 40)
SHARES = (0.1, 0.2, 0.4)  # of a side, by which an edge moves at most
BOXES = 4  # of the ensemble, including the original one


def moved_boxes(boxes: Boxes, share: float, shape: tuple[int, int], rng: np.random.Generator) -> Boxes:
    """Return the ensemble's boxes (`BOXES` · N, 4): first `boxes` (N, 4), then the moved ones."""
    moves = rng.uniform(-share, share, (BOXES, *boxes.shape)) * np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    moves[0] = 0
    return clip(np.asarray(boxes + moves, np.float32).reshape(-1, 4), shape)


def main() -> None:
    """Print the mean IoU of each way at each level."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("model", help="a model of seed 0")
    parser.add_argument("--objects", type=int, default=200)
    arguments = parser.parse_args()
    results, dataset = arguments.results, arguments.dataset
    objects = read_objects(results / f"boxes/{dataset}.csv", "validation", arguments.objects)
    data = TrainingData.of_experiment(results, dataset, objects)
    trained = load_model(results / f"train/{dataset}/{arguments.model}/0.safetensors").to(device())
    predictor = Predictor(trained, data.tiles.frame, choose_precision("auto"))
    values = defaultdict[tuple[str, int], list[float]](list)
    for number, rows in by_tile(objects):
        shape, rng = data.tiles.tiles.shape(number), np.random.default_rng(number)
        (view,), truth = predictor.views([data.tiles.embeddings[number]], [shape]), data.tiles.masks(number, rows)
        for level in LEVELS:
            boxes = deviated(rows, level, dataset, 0, CONFIG.deviation, shape)
            histories = iterated(predictor, [view] * len(boxes), boxes)
            values["first mask", level] += iou(np.stack([each[0].mask for each in histories]), truth).tolist()
            final = np.stack([each[output_of(each, CONFIG.refine)].mask for each in histories])
            values["iterated (K)", level] += iou(final, truth).tolist()
            values["predictions of K", level] += map(len, histories)
            for share in SHARES:
                moved = moved_boxes(boxes, share, shape, rng)
                masks = np.stack(predictor.predict([view] * len(moved), moved)[0]).reshape(BOXES, *truth.shape)
                values[f"{BOXES} boxes, {share:.0%}", level] += iou(masks.mean(axis=0) >= 0.5, truth).tolist()
    ways = dict.fromkeys(way for way, _ in values)
    print(f"{dataset}, {arguments.model}, {len(objects)} validation objects, mean IoU")
    lines = [[way, *(f"{np.mean(values[way, level]):.3f}" for level in LEVELS)] for way in ways]
    print(table(["", *(f"{level} %" for level in LEVELS)], lines))


if __name__ == "__main__":
    main()
