"""Compare ways to follow objects through a volume with labels: `python -m benchmarks.track IMAGES LABELS`.

IMAGES and LABELS are stacks of one shape (a folder of slices, TIFF, file.h5:dataset, Zarr). Labels number the objects
in 3-D, or `--foreground` names a value whose connected components are the objects. Each object has a box in its
middle slice, around the largest part there: exact, scaled by 40 % and shifted by 20 %. All boxes are followed in one
call, so that they share the encoded windows.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import generate_binary_structure, label

from benchmarks.measuring import machine, table
from pipeline_lib import load_segmenter
from pipeline_lib.data.boxes import XYXY, clip, deviate
from pipeline_lib.data.masks import bounding_box, largest_component
from pipeline_lib.data.readers import open_stack
from pipeline_lib.data.track_tables import slices_table, volume_table
from pipeline_lib.data.tracks import Tracks
from pipeline_lib.settings.boxes import Deviation

KINDS = {"exact": ("scale", 0), "40 % off": ("scale", 40), "shifted by 20 %": ("translate", 20)}
SIMPLE = {"overlap": 0.4, "confidence": 0.6, "likeness": 0.0}  # follow objects without a limit on greys
POOR = 0.5  # 3-D IoU below which a track should be flagged
NOT_COUNTED = {"", "shares voxels"}  # no flag; and boxes of all kinds are followed together, so they share voxels


def boxes_of(labels: NDArray[Any], least: int, seed: int) -> pd.DataFrame:
    """Return a box of each kind for each object, in its middle slice.

    Args:
        labels: ZYX, numbers of objects.
        least: smallest object, voxels.
        seed: seed of the deviations.

    Returns:
        Columns number, slice, x0, y0, x1, y1, kind and name. The name contains number and kind.
    """
    parts = []
    for number in np.flatnonzero(np.bincount(labels.ravel()) >= least)[1:].tolist():
        depths = np.flatnonzero((labels == number).any(axis=(1, 2)))
        z = int(depths[len(depths) // 2])
        parts.append((number, z, *bounding_box(largest_component(labels[z] == number)).tolist()))
    exact = pd.DataFrame(parts, columns=["number", "slice", *XYXY])
    uniform = np.random.default_rng(seed).random((len(exact), 4))
    tables = []
    for kind, (deviation, level) in KINDS.items():
        config = Deviation.model_validate({"kind": deviation, "direction": "both"})
        loose = deviate(exact[XYXY], level, uniform, config)
        table = exact.assign(kind=kind, name=[f"{number} {kind}" for number in exact["number"]])
        table[XYXY] = clip(loose, labels.shape[1:])
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def same_box(images: NDArray[np.uint8], labels: NDArray[Any], boxes: pd.DataFrame) -> NDArray[np.float64]:
    """Return the 3-D IoU of each box's object with the masks of the same box in every slice."""
    segmenter = load_segmenter(on_bad_box="skip")
    sums = np.zeros((len(boxes), 2))
    for image, truth in zip(images, labels, strict=True):
        masks, _ = segmenter(image, boxes)
        true = truth == boxes["number"].to_numpy()[:, None, None]
        sums += np.stack([(masks & true).sum(axis=(1, 2)), (masks | true).sum(axis=(1, 2))], axis=1)
    return sums[:, 0] / sums[:, 1]


def followed(tracks: Tracks, labels: NDArray[Any], boxes: pd.DataFrame) -> NDArray[np.float64]:
    """Return the 3-D IoU of each box's object with its masks; objects are numbered as the boxes."""
    shared, areas = np.zeros(len(boxes)), np.zeros(len(boxes))
    numbers = boxes["number"].tolist()
    for z in tracks.masks["slice"].unique().tolist():
        instances = tracks.instances(z)
        for number, mask in instances.masks.items():
            crop = instances.crop(number)
            true = labels[z, mask.y0 : mask.y1, mask.x0 : mask.x1] == numbers[number - 1]
            shared[number - 1] += (crop & true).sum()
            areas[number - 1] += crop.sum()
    voxels = np.bincount(labels.ravel())[numbers]
    return np.asarray(shared / (areas + voxels - shared))


def main() -> None:
    """Print the mean 3-D IoU of each way and kind of box, and how many poor tracks are flagged."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("labels")
    parser.add_argument(
        "--foreground",
        type=int,
        help="value of the labels whose connected components, over all used slices, are the objects",
        metavar="VALUE",
    )
    parser.add_argument("--every", type=int, default=1, help="use every Nth slice", metavar="N")
    parser.add_argument("--objects", type=int, default=1, help="use every Nth object", metavar="N")
    parser.add_argument("--least", type=int, default=2000, help="smallest object, voxels")
    ways = ["simple", "same"]
    parser.add_argument("--beside", nargs="*", choices=ways, default=ways, help="ways to compare with")
    parser.add_argument("--tracks", type=Path, help="Parquet file to write, with all masks of LooseBox")
    parser.add_argument("--keep", type=Path, help="CSV to write, with the 3-D IoU of each box")
    arguments = parser.parse_args()
    images, labels = (open_stack(path)[:: arguments.every].compute() for path in (arguments.images, arguments.labels))
    if arguments.foreground is not None:
        labels, _ = label(labels == arguments.foreground, generate_binary_structure(3, 3))
    boxes = boxes_of(labels, arguments.least, seed=0)
    numbers = boxes["number"].drop_duplicates().iloc[:: arguments.objects]
    boxes = boxes[boxes["number"].isin(numbers)].reset_index(drop=True)
    loosebox = load_segmenter()
    tracks = loosebox.tracks(images, boxes)
    objects = volume_table(tracks, slices_table(tracks), None, loosebox.settings.track.flags)
    scores = boxes.assign(flags=objects["flags"].to_list(), loosebox=followed(tracks, labels, boxes))
    if arguments.tracks:
        tracks.rows.to_parquet(arguments.tracks)
    if "simple" in arguments.beside:
        scores["simple"] = followed(load_segmenter(track=SIMPLE).tracks(images, boxes), labels, boxes)
    if "same" in arguments.beside:
        scores["same"] = same_box(images, labels, boxes)
    ways = ["loosebox", *arguments.beside]
    means = scores.groupby("kind", sort=False)[ways].mean()
    print(machine(1))
    print(table(["boxes", *ways], [[kind, *(f"{value:.3f}" for value in row)] for kind, *row in means.itertuples()]))
    poor = scores["loosebox"] < POOR
    flagged = scores["flags"].map(lambda flags: bool(set(flags.split("; ")) - NOT_COUNTED))
    print(f"{int(poor.sum())} of {len(scores)} tracks below {POOR}; {int((poor & flagged).sum())} of them flagged, ")
    print(f"{int(flagged.sum())} flagged in all")
    if arguments.keep:
        scores.to_csv(arguments.keep, index=False)


if __name__ == "__main__":
    main()
