"""Compare masks in whole slices with masks in tiles: `python -m benchmarks.slices RESULTS DATASET MODEL`.

RESULTS is the folder of a finished experiment. The command takes the tested objects that no tile cuts, segments them in
whole slices with the boxes of the tables, and compares their IoU with the scores of the experiment, of seed 0.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline_lib import load_segmenter
from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import XYXY, deviated, read_boxes
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import iou
from pipeline_lib.settings.boxes import Deviation

LEVELS = (20, 40)


def whole_slice(store: Store, tiles: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return a slice's image (h, w), and its objects (h, w) as tile · 2³² + object."""
    ends = [np.add(store.origin(tile)[1:], store.shape(tile)) for tile in tiles]
    image, objects = np.zeros(np.max(ends, axis=0), np.uint8), np.zeros(np.max(ends, axis=0), np.int64)
    for tile, (bottom, right) in zip(tiles, ends, strict=True):
        _, top, left = store.origin(tile)
        image[top:bottom, left:right] = store.pixels(tile)
        objects[top:bottom, left:right] = store.objects(tile).astype(np.int64) + (tile << 32)
    return image, objects


def main() -> None:
    """Print the mean IoU of both ways at each level, and the mean difference with its 95 % interval over objects."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("dataset")
    parser.add_argument("model")
    arguments = parser.parse_args()
    results, dataset, model = arguments.results, arguments.dataset, arguments.model
    store, backbone = Store.open(results / f"convert/{dataset}.zarr"), Backbone.read(results / "weights/manifest.json")
    boxes = read_boxes(results / f"boxes/{dataset}.csv")
    corners, sides = boxes[XYXY].to_numpy(), np.array([store.shape(tile)[::-1] for tile in boxes["tile"]])
    boxes = boxes[np.all((corners[:, :2] > 0) & (corners[:, 2:] < sides), axis=1)]
    origins = np.array([store.origin(tile) for tile in boxes["tile"]])
    boxes[XYXY] += np.tile(origins[:, :0:-1], 2)
    segmenter = load_segmenter(results / f"train/{dataset}/{model}/0.safetensors", backbone.name, backbone.checkpoint)
    for level in LEVELS:
        scores = pd.read_csv(results / f"score/{dataset}/{model}/0/{level}.csv")
        tested = boxes.assign(z=origins[:, 0]).merge(scores[["tile", "object", "iou_iterated"]], on=["tile", "object"])
        in_slices = []
        for z, rows in tested.groupby("z", sort=False):
            image, objects = whole_slice(store, [tile for tile in range(len(store)) if store.origin(tile)[0] == z])
            prompts = deviated(rows, level, dataset, 0, Deviation(kind="scale", direction="both"), image.shape)
            keys = (rows["tile"].to_numpy(np.int64) << 32) + rows["object"].to_numpy()
            truth = objects == keys[:, None, None]
            in_slices += iou(segmenter(image, prompts)[0], truth).tolist()
        differences = np.array(in_slices) - tested["iou_iterated"]
        error = 1.96 * differences.std(ddof=1) / len(differences) ** 0.5
        print(
            f"{dataset}, {model}, {level} %: {len(tested)} objects, whole slices {np.mean(in_slices):.3f}, tiles "
            f"{tested['iou_iterated'].mean():.3f}, difference {differences.mean():+.3f} ± {error:.3f}"
        )


if __name__ == "__main__":
    main()
