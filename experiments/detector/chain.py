r"""From the detector's boxes to masks, with several models, and how good these masks are.

    python experiments/detector/chain.py epfl --split test --configfile experiments/paper.yaml \
        experiments/overlays/laptop.yaml experiments/overlays/robust.yaml experiments/overlays/measured.yaml

The models must be trained (see README.md), and detect.py must have written the boxes. Boxes below the minimum score of
their detector are left out.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from average_precision import average_precision, labelled_objects
from tiles import Tiles
from tqdm import tqdm

from pipeline_lib.config.defaults import default_config
from pipeline_lib.config.files import check_files
from pipeline_lib.config.overlays import merged
from pipeline_lib.config.read import read_config
from pipeline_lib.config.rows import refine_of, weights_file
from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.masks import from_rle, iou, to_rle
from pipeline_lib.evaluation.deviations import deviations
from pipeline_lib.evaluation.statistics import estimate, sums_by_group
from pipeline_lib.inference.iterate import Inference
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.box_model import load_model
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.device import choose_precision, device
from pipeline_lib.settings.config import Config

MODELS = ("sam", "proposed", "adapted", "loose", "shipped")  # and the one that is trained on measured boxes
BESIDE = "loose"  # model that the others are compared with, object by object
KEYS = ["steps", "model", "masks"]
KINDS = ["first", "iterated"]  # of masks
AT_ONCE = 64  # boxes


def configuration(files: Sequence[str]) -> Config:
    """Return the configuration of several files, each laid over the ones before it."""
    check_files(files)
    plain = default_config()
    for file in files:
        plain = merged(plain, yaml.safe_load(Path(file).read_text(encoding="utf-8")))
    return read_config(plain)


def chain(config: Config, dataset: str, split: str, models: Sequence[str]) -> pd.DataFrame:
    """Write RESULTS/detector/DATASET/SPLIT_ious.csv and SPLIT_masks.csv, and return the latter."""
    results = Path(config.results)
    folder, tiles = results / "detector" / dataset, Tiles(results, dataset)
    truth, rows, precisions = labelled_objects(tiles, split), [], {}
    detectors = pd.read_csv(folder / "detectors.csv")
    for model in models:
        inference, cache = loaded(config, dataset, model)
        for steps, least in zip(detectors["steps"], detectors["minimum_score"], strict=True):
            boxes = pd.read_csv(folder / str(steps) / f"{split}.csv")
            boxes = boxes[boxes["score"] >= least].reset_index(drop=True)
            masks = masks_of(inference, cache, boxes, f"{model}, {steps} steps")
            pairs = deviations(boxes, tiles.objects(split)).pairs.merge(masks, left_on="where", right_index=True)
            for kind in KINDS:
                key = (steps, model, kind)
                precisions[key] = average_precision(truth, coco_masks(tiles, boxes, masks[kind]), "segm")
                reached = [iou_of(tiles, pair, pair[kind]) for _, pair in pairs.iterrows()]
                keys = dict(zip(KEYS, key, strict=True))
                slices = [tiles.store.origin(tile)[0] for tile in pairs["image"]]
                rows.append(pairs[["image", "object", "box_iou"]].assign(slice=slices, iou=reached, **keys))
    ious = pd.concat(rows, ignore_index=True)
    table = pd.DataFrame([summary(ious, key, ap) for key, ap in precisions.items()])
    for name, content in {"ious": ious, "masks": table}.items():
        with atomic(folder / f"{split}_{name}.csv") as unfinished:
            content.to_csv(unfinished, index=False, float_format="%.4f")
    return table


def loaded(config: Config, dataset: str, model: str) -> tuple[Inference, Embeddings]:
    """Return a model ready to segment, and the embeddings of the data set's tiles."""
    results = Path(config.results)
    manifest = results / "weights" / f"{config.backbone.name}.json"
    store = results / "convert" / f"{dataset}.zarr"
    cache = Embeddings.open(results / "embed" / f"{dataset}.zarr", store, manifest)
    frame, refine = Frame(cache.source.tile_shape, Backbone.read(manifest).image_size), refine_of(config, model)
    file = weights_file(config, dataset, model, config.experiment.seeds[0]).replace("<results>", str(results))
    predictor = Predictor(load_model(file).to(device()), frame, choose_precision(refine.precision), refine.mask_extent)
    return Inference(predictor, refine), cache


def masks_of(inference: Inference, cache: Embeddings, boxes: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the run lengths of the `first` and the `iterated` mask of each box, by its `where`.

    Tiles without objects have no embedding. There a mask would be wrong whatever it is: it is left empty.
    """
    table = boxes[[str(tile) in cache.content for tile in boxes["image"]]]
    keys = pd.DataFrame({"tile": table["image"], "box": table.index})
    empty = [to_rle(np.zeros(cache.source.shape(tile), bool)) for tile in boxes["image"]]
    masks = pd.DataFrame({"first": empty, "iterated": empty}, index=boxes["where"])
    for start in tqdm(range(0, len(table), AT_ONCE), name, mininterval=10):
        part = slice(start, start + AT_ONCE)
        corners = table[XYXY].to_numpy("float32")[part]
        for row in inference.run(keys.iloc[part], corners, cache.__getitem__, cache.source.shape).rows:
            where = boxes["where"][row["box"]]
            if row["iteration"] == 0:
                masks.loc[where, "first"] = row["mask"]
            if row["output"]:
                masks.loc[where, "iterated"] = row["mask"]
    return masks


def iou_of(tiles: Tiles, pair: pd.Series, mask: str) -> float:
    """Return the IoU of a mask with the object that its box was matched to."""
    labels = tiles.store.objects(pair["image"])
    return float(iou(from_rle(mask, labels.shape), labels == pair["object"]))


def coco_masks(tiles: Tiles, boxes: pd.DataFrame, masks: "pd.Series[str]") -> Iterator[dict[str, Any]]:
    """Yield the masks of boxes in COCO's form, with the scores of the boxes."""
    for box, mask in zip(boxes.itertuples(), masks, strict=True):
        segmentation = {"size": [*tiles.store.shape(box.image)], "counts": mask}
        yield {"image_id": box.image, "category_id": 1, "score": box.score, "segmentation": segmentation}


def summary(ious: pd.DataFrame, key: tuple[Any, ...], ap: Any) -> dict[str, Any]:
    """Return a line of the table: mIoU of matched objects, how far it is above `BESIDE`, and average precision."""
    own, beside = (select(ious, each) for each in (key, (key[0], BESIDE, key[2])))
    values = {"miou": own} | ({} if beside.empty else {"above": own - beside})
    line = dict(zip(KEYS, key, strict=True)) | {"objects": len(own)}
    for name, each in values.items():
        rows = each.reset_index().assign(seed=0)
        figure = estimate(sums_by_group(rows.groupby(["seed", "slice"])["iou"]))
        line |= {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high}
    return line | {"ap": ap.mean, "ap50": ap.at_50, "ap75": ap.at_75}


def select(ious: pd.DataFrame, key: tuple[Any, ...]) -> "pd.Series[float]":
    """Return the IoU of each matched object of one detector, model and kind of mask."""
    chosen = (ious[KEYS] == list(key)).all(axis=1)
    return ious[chosen].set_index(["slice", "image", "object"])["iou"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="data set, as the configuration calls it")
    parser.add_argument("--split", choices=["validation", "test"], default="validation")
    parser.add_argument("--configfile", nargs="+", required=True, help="configuration files, as of snakemake")
    parser.add_argument("--models", nargs="+", help=f"default: {' '.join(MODELS)} measured_DATASET")
    arguments = parser.parse_args()
    config = configuration(arguments.configfile)
    models = arguments.models or [*MODELS, f"measured_{arguments.dataset}"]
    print(chain(config, arguments.dataset, arguments.split, models).to_string())
