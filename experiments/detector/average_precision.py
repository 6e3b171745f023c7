"""COCO's average precision of boxes or masks in the tiles of a split, by COCO's own evaluation."""

from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, NamedTuple

from network import MOST
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from tiles import Tiles

from pipeline_lib.data.masks import to_rle


class AveragePrecision(NamedTuple):
    """Average precision over the IoU thresholds .5, .55, …, .95, and at .5 and .75."""

    mean: float
    at_50: float
    at_75: float


def labelled_objects(tiles: Tiles, split: str) -> COCO:
    """Return the objects of a split as COCO's data set: an image for each tile, with or without objects."""
    numbers = tiles.of_split(split)
    images, annotations = [], []
    for tile in numbers:
        height, width = tiles.store.shape(tile)
        images.append({"id": tile, "height": height, "width": width})
        labels, rows = tiles.store.objects(tile), tiles.boxes[tiles.boxes["tile"] == tile]
        for row in rows.itertuples():
            annotations.append(
                {
                    "id": len(annotations) + 1,  # from 1: COCO takes 0 for no match
                    "image_id": tile,
                    "category_id": 1,
                    "bbox": [row.x0, row.y0, row.x1 - row.x0, row.y1 - row.y0],
                    "segmentation": {"size": [height, width], "counts": to_rle(labels == row.object)},
                    "area": row.area,
                    "iscrowd": 0,
                }
            )
    truth = COCO()
    truth.dataset = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    with redirect_stdout(StringIO()):
        truth.createIndex()
    return truth


def average_precision(truth: COCO, results: Iterable[Mapping[str, Any]], kind: str) -> AveragePrecision:
    """Return the average precision of results in COCO's form.

    Args:
        truth: of `labelled_objects`.
        results: with `image_id`, `category_id`, `score`, and `bbox` or `segmentation`.
        kind: "bbox" or "segm".
    """
    listed = list(results)
    if not listed:
        return AveragePrecision(0.0, 0.0, 0.0)
    with redirect_stdout(StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(listed), kind)
        evaluation.params.maxDets = [MOST]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, 0, 0, 0]  # threshold of IoU, recall; one class, all areas
    return AveragePrecision(float(precision.mean()), float(precision[0].mean()), float(precision[5].mean()))
