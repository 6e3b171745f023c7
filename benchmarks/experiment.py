"""Run a part of a finished experiment in two ways: `python -m benchmarks.experiment RESULTS DATASET`.

RESULTS is the folder of a finished experiment. Two of its models are trained for an epoch on a few objects, and tested
at two levels on a few others. The plain way uses segment_anything in float32: it runs the encoder in each training step
and again for each model, level and iteration, and predicts one box at a time. Ours runs the encoder once for each tile.
"""

import argparse
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from segment_anything import SamPredictor

from benchmarks.measuring import interleaved, machine
from benchmarks.networks import CONFIG, iterated
from benchmarks.train import TrainingData, our_epoch, plain_epoch, training_config
from pipeline_lib.data.boxes import Boxes, by_tile, deviated, read_boxes
from pipeline_lib.data.masks import Mask
from pipeline_lib.inference.iterate import first_predictions, iterate
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.backbones import load_backbone, load_to_encode
from pipeline_lib.model.box_model import load_model
from pipeline_lib.model.embeddings import encode_tiles, to_network
from pipeline_lib.runtime.device import device
from pipeline_lib.runtime.malloc import keep_freed_memory

LEVELS = (0, 40)
MODELS = ("sam", "sam_p")  # segment_anything can run these, as they have no token
OBJECTS, TILES = 8, 2  # of each tile; of each split


def chosen_objects(boxes: pd.DataFrame, split: str) -> pd.DataFrame:
    """Return `OBJECTS` of each of the `TILES` tiles of a split that have the most objects."""
    rows = boxes[boxes["split"] == split]
    tiles = rows["tile"].value_counts().index[:TILES]
    return rows[rows["tile"].isin(tiles)].groupby("tile").head(OBJECTS)


def plain_inference(predictor: SamPredictor, tile: NDArray[np.uint8], boxes: Boxes) -> None:
    """Iterate a tile's boxes. Each iteration runs the encoder, and then the decoder for one box after the other."""
    pixels = np.stack([tile] * 3, axis=-1)

    def predict(_: Sequence[int], boxes: Boxes) -> tuple[Sequence[Mask], NDArray[np.float32]]:
        predictor.set_image(pixels)
        predictions = [predictor.predict(box=box, multimask_output=False) for box in boxes]
        return [masks[0] for masks, _, _ in predictions], np.array([ious[0] for _, ious, _ in predictions])

    iterate(predict, first_predictions(predict, boxes), CONFIG.refine)


def plain_part(data: TrainingData, models: Sequence[Path], tested: pd.DataFrame, dataset: str) -> None:
    """Train and test in the plain way."""
    for model in models:
        plain_epoch(data, training_config(OBJECTS, "float32"))()
        sam = load_backbone(data.weights)
        sam.load_state_dict(load_model(model).state_dict(), strict=False)
        predictor = SamPredictor(sam.to(device()))
        for level, (tile, rows) in product(LEVELS, by_tile(tested)):
            boxes = deviated(rows, level, dataset, 0, CONFIG.deviation, data.tiles.tiles.shape(tile))
            plain_inference(predictor, data.tiles.tiles.pixels(tile), boxes)


def our_part(data: TrainingData, models: Sequence[Path], tested: pd.DataFrame, dataset: str) -> None:
    """Train and test with our code, in bfloat16. Each tile is encoded once."""
    store, sam = data.tiles.tiles, load_to_encode(data.weights, "float32")
    for tile in {*data.boxes["tile"], *tested["tile"]}:
        encode_tiles(sam, [to_network(store.pixels(tile), data.tiles.frame)], "float32")
    tiles, shapes = tested["tile"].unique().tolist(), [store.shape(tile) for tile in tested["tile"]]
    for model in models:
        our_epoch(data, training_config(OBJECTS, "bfloat16"))()
        decoder = Predictor(load_model(model).to(device()), data.tiles.frame, "bfloat16")
        for level in LEVELS:
            views = decoder.views(map(data.tiles.embeddings.__getitem__, tiles), map(store.shape, tiles))
            view_of = dict(zip(tiles, views, strict=True))
            boxes = deviated(tested, level, dataset, 0, CONFIG.deviation, shapes)
            iterated(decoder, [view_of[tile] for tile in tested["tile"]], boxes)


def main() -> None:
    """Measure, and print how much faster our way is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the stages do
    results, dataset = arguments.results, arguments.dataset
    table = read_boxes(results / f"boxes/{dataset}.csv")
    data = TrainingData.of_experiment(results, dataset, chosen_objects(table, "train"))
    models = [next((results / f"train/{dataset}/{model}").glob("*.safetensors")) for model in MODELS]
    tested = chosen_objects(table, "test")
    ways = {"plain": plain_part, "ours": our_part}
    calls = {name: partial(way, data, models, tested, dataset) for name, way in ways.items()}
    seconds = interleaved(calls, arguments.rounds)
    plain, ours = seconds["plain"], seconds["ours"]
    print(machine(arguments.rounds))
    print(f"{len(data.boxes)} objects to train on, {len(tested)} to test, in {TILES} tiles each; {len(models)} models")
    print(
        f"plain, float32: {plain.busy:.1f} CPU s, {plain.wall:.1f} s; ours, bfloat16: {ours.busy:.1f} CPU s, "
        f"{ours.wall:.1f} s; × {plain.busy / ours.busy:.1f}"
    )


if __name__ == "__main__":
    main()
