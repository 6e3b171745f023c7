"""Measure which poor masks the flags of `predict` find: `python -m benchmarks.flags DATA`.

DATA is the folder of the shipped model's data sets (experiments/ready/README.md). The command takes images that the
model was not trained on: the validation splits of experiments/ready.yaml. It makes the exact boxes of some objects too
large or too small, segments them in whole images with the shipped model, and compares flags with the IoU of mask and
object.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from benchmarks.measuring import machine, table
from benchmarks.networks import CONFIG
from pipeline_lib import load_segmenter
from pipeline_lib.api import LoadedSegmenter
from pipeline_lib.config.defaults import default_config
from pipeline_lib.config.overlays import merged
from pipeline_lib.config.read import read_config
from pipeline_lib.config.sets import within_data
from pipeline_lib.data.boxes import XYXY, deviated, evenly_spaced, object_boxes
from pipeline_lib.data.masks import iou
from pipeline_lib.data.objects_table import FLAGS
from pipeline_lib.data.readers import open_label_slices
from pipeline_lib.data.splits import split_slices
from pipeline_lib.data.tiling import components, grey_slices
from pipeline_lib.data.volumes import slice_names
from pipeline_lib.settings.datasets import Dataset, PathSource

READY = Path(__file__).parents[1] / "experiments/ready.yaml"
LEVELS = (0, 20, 40)
POOR = 0.5  # IoU below which a mask should be flagged
THRESHOLDS = (0.5, 0.6, 0.65, 0.7, 0.71, 0.75, 0.8)  # of the predicted IoU


def held_out(folder: Path, dataset: Dataset, count: int) -> Iterator[tuple[int, NDArray[np.uint8], NDArray[np.uint32]]]:
    """Yield number, pixels (YX) and objects (YX) of some validation slices.

    Args:
        folder: folder of the data set.
        dataset: its volumes and labels.
        count: largest number of slices of a volume.
    """
    for volume in dataset.volumes:
        path = str(folder / volume.images)
        images, labels = grey_slices(path, dataset.grey_range), open_label_slices(str(folder / volume.labels))
        splits = split_slices(path, slice_names(path, len(images)), volume.split, volume.every)
        validation = pd.DataFrame({"slice": [index for index, split in splits if split == "validation"]})
        for index in evenly_spaced(validation, count)["slice"]:
            objects = components(labels[index].compute(), dataset.labels, dataset.minimum_area)
            yield index, images[index].compute(), objects


def loose_boxes(name: str, number: int, objects: NDArray[np.uint32], count: int) -> pd.DataFrame:
    """Return the boxes of some objects (YX) of a slice at each level, with the columns of `read_boxes` and `label`."""
    exact = pd.DataFrame(object_boxes(objects), columns=["object", *XYXY, "area"]).assign(tile=number)
    exact = evenly_spaced(exact, count)
    levels = []
    for level in LEVELS:
        loose = exact.assign(level=level, label=str(level))  # equal boxes of one class would be refused
        loose[XYXY] = deviated(exact, level, name, 0, CONFIG.deviation, objects.shape)
        levels.append(loose)
    return pd.concat(levels, ignore_index=True)


def scored(
    segmenter: LoadedSegmenter, pixels: NDArray[np.uint8], objects: NDArray[np.uint32], boxes: pd.DataFrame
) -> pd.DataFrame:
    """Return boxes with the IoU of their masks, the predicted IoU and the flags."""
    masks, results = segmenter(pixels, boxes)
    truth = objects == boxes["object"].to_numpy()[:, None, None]
    outcome = {name: results[name].to_numpy() for name in ("predicted_iou", "flags")}
    return boxes.assign(iou=iou(masks, truth), **outcome)


def rules(scores: pd.DataFrame) -> Mapping[str, pd.Series]:
    """Return which masks each rule flags."""
    flags, predicted = scores["flags"], scores["predicted_iou"]
    flagged = {flag: flags.str.contains(flag, regex=False) for flag in FLAGS}
    return {
        **{flag: masks for flag, masks in flagged.items() if masks.any()},
        "any of these": flags != "",
        **{f"predicted IoU below {threshold}": predicted < threshold for threshold in THRESHOLDS},
        **{f"any, or below {threshold}": (flags != "") | (predicted < threshold) for threshold in THRESHOLDS},
    }


def main() -> None:
    """Print how many masks each rule flags, and how many of the poor ones."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=3, help="images of each data set, at most")
    parser.add_argument("--objects", type=int, default=16, help="objects of each image, at most")
    parser.add_argument("--keep", type=Path, help="CSV to write, with a row for each mask")
    arguments = parser.parse_args()
    ready = yaml.safe_load(READY.read_text(encoding="utf-8")) | {"data": arguments.data}
    segmenter = load_segmenter(flags={"predicted_iou": 0.0})  # the thresholds are applied below
    parts = []
    for name, dataset in within_data(read_config(merged(default_config(), ready))).items():
        if isinstance(dataset.source, PathSource):
            for number, pixels, objects in held_out(Path(dataset.source.folder), dataset, arguments.images):
                boxes = loose_boxes(name, number, objects, arguments.objects)
                parts.append(scored(segmenter, pixels, objects, boxes).assign(dataset=name))
    scores = pd.concat(parts, ignore_index=True)
    if arguments.keep:
        scores.to_csv(arguments.keep, index=False)
    poor = scores["iou"] < POOR
    print(machine(1))
    print(f"{len(scores)} masks of {scores['dataset'].nunique()} data sets, {poor.sum()} with an IoU below {POOR}\n")
    lines = [
        [rule, f"{flagged.mean():.0%}", f"{flagged[poor].mean():.0%}", f"{poor[flagged].mean():.0%}"]
        for rule, flagged in rules(scores).items()
    ]
    print(table(["rule", "flagged", "of the poor masks", "of the flagged masks, poor"], lines))


if __name__ == "__main__":
    main()
