"""Detect objects in the validation and test tiles, and say how the boxes deviate from the labelled objects.

    python experiments/detector/detect.py results/laptop epfl

It does so for each file that train.py wrote. The minimum score is the one with the highest F1 on the validation tiles.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from average_precision import average_precision, labelled_objects
from network import load_detector
from tiles import Tiles
from torchvision.models.detection import FasterRCNN
from tqdm import tqdm

from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.measured_deviations import EDGES
from pipeline_lib.evaluation.deviations import Deviations, deviations, figures
from pipeline_lib.report.deviations import write_deviations
from pipeline_lib.runtime.atomic import atomic

SCORES = np.arange(0.05, 1, 0.05).round(2)
HIT = 0.5  # box IoU from which a box has found its object


def detect(results: Path, dataset: str) -> pd.DataFrame:
    """Write the boxes and deviations of each detector, and return the table of detectors."""
    folder, tiles = results / "detector" / dataset, Tiles(results, dataset)
    rows = []
    for path in sorted(folder.glob("[0-9]*.pt"), key=lambda path: int(path.stem)):
        boxes = {split: detected_boxes(path, tiles, split) for split in ("validation", "test")}
        least = best_score(boxes["validation"], tiles.objects("validation"))
        matches = {
            split: deviations(table[table["score"] >= least], tiles.objects(split)) for split, table in boxes.items()
        }
        if empty := [split for split, match in matches.items() if match.pairs.empty]:
            print(f"{path}: finds no object of the {empty[0]} split, and is left out; train it for more steps")
            continue
        row = {"dataset": dataset, "steps": int(path.stem), "minimum_score": least}
        for split, match in matches.items():
            by_slices = by_slice(match, tiles)
            ap = average_precision(labelled_objects(tiles, split), coco_boxes(boxes[split]), "bbox")
            row |= {f"{split}_{key}": value for key, value in summary(by_slices).items()}
            row |= {f"{split}_ap": ap.mean, f"{split}_ap50": ap.at_50, f"{split}_ap75": ap.at_75}
            settings = {"data set": dataset, "steps": path.stem, "lowest score": least}
            title = f"{dataset}, {path.stem} steps"
            write_deviations(path.with_suffix("") / split, title, by_slices, settings)
        rows.append(row)
    table = pd.DataFrame(rows)
    with atomic(folder / "detectors.csv") as unfinished:
        table.to_csv(unfinished, index=False, float_format="%.4f")
    return table


def detected_boxes(weights: Path, tiles: Tiles, split: str) -> pd.DataFrame:
    """Return the boxes that a detector finds in a split, from a file if that is newer than the detector."""
    file = weights.with_suffix("") / f"{split}.csv"
    if not file.exists() or file.stat().st_mtime < weights.stat().st_mtime:
        with atomic(file) as unfinished:
            boxes_of(load_detector(weights), tiles, split).to_csv(unfinished, index=False)
    return pd.read_csv(file)


@torch.inference_mode()
def boxes_of(model: FasterRCNN, tiles: Tiles, split: str) -> pd.DataFrame:
    """Return the boxes of a split: `image`, the tile's number, `slice`, 0, XYXY in its pixels, `score`, `where`."""
    tables = []
    for tile in tqdm(tiles.of_split(split), split, mininterval=10):
        (result,) = model([torch.from_numpy(tiles.image(tile))[None]])
        table = pd.DataFrame(result["boxes"].numpy(), columns=XYXY).assign(score=result["scores"].numpy())
        tables.append(table.assign(image=tile, slice=0, where=[f"tile {tile}, box {box}" for box in range(len(table))]))
    return pd.concat(tables, ignore_index=True)


def best_score(boxes: pd.DataFrame, objects: pd.DataFrame) -> float:
    """Return the minimum score at which the boxes have the highest F1."""
    return float(max(SCORES, key=lambda least: f1(deviations(boxes[boxes["score"] >= least], objects))))


def f1(found: Deviations) -> float:
    """Return the harmonic mean of precision and recall."""
    hits = (found.pairs["box_iou"] >= HIT).sum()
    return float(2 * hits / (found.slices["boxes"] + found.slices["objects"]).sum())


def by_slice(found: Deviations, tiles: Tiles) -> Deviations:
    """Return deviations by slices of the data set in place of tiles, so that intervals are over slices."""

    def slices(table: pd.DataFrame) -> pd.DataFrame:
        numbers = [tiles.store.origin(tile)[0] for tile in table["image"]]
        return table.assign(tile=table["image"], slice=numbers, image="")

    counts = slices(found.slices).groupby(["image", "slice"], as_index=False).sum().drop(columns="tile")
    return Deviations(slices(found.pairs), counts)


def summary(found: Deviations) -> dict[str, float]:
    """Return precision, recall and how the boxes of matched objects deviate on average."""
    totals, pairs = found.slices.sum(numeric_only=True), found.pairs
    hits = float((pairs["box_iou"] >= HIT).sum())
    values = {"precision": hits / max(1, totals["boxes"]), "recall": hits / totals["objects"], "pairs": len(pairs)}
    for figure in figures(pairs):
        key = figure.name.lower().removeprefix("mean ").removesuffix(" %").replace(" ", "_")
        values |= {key: figure.value.value, f"{key}_low": figure.value.low, f"{key}_high": figure.value.high}
    outward = pairs[list(EDGES)].to_numpy()
    values |= {"outward_mean": outward.mean(), "outward_sd": outward.std(), "scale": pairs["scale"].mean()}
    shifts = pairs[["shift_x", "shift_y"]].abs().max(axis=1)
    return values | {"shifted_by_20": float((shifts > 0.2).mean()), "level_median": pairs["level"].median()}


def coco_boxes(boxes: pd.DataFrame) -> list[dict[str, object]]:
    """Return boxes in COCO's form."""
    corners = boxes[XYXY].to_numpy()
    sized = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]]).tolist()
    return [
        {"image_id": image, "category_id": 1, "score": score, "bbox": box}
        for image, score, box in zip(boxes["image"], boxes["score"], sized, strict=True)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="folder of results")
    parser.add_argument("dataset", help="data set, as the configuration calls it")
    arguments = parser.parse_args()
    print(detect(arguments.results, arguments.dataset).T.to_string())
