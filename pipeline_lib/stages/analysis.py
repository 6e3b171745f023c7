"""Stage analysis: which objects iteration helps and which it harms, and how fast their masks settle."""

from pathlib import Path

import pandas as pd

from pipeline_lib.data.dataset import Store
from pipeline_lib.data.paths import Cell
from pipeline_lib.evaluation.breakdowns import CHANGES, change_lines, describe, exact_boxes, group_lines, worst_lines
from pipeline_lib.evaluation.summary import write_csv
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.experiment import TestedObjects


def analysis(
    *,
    scores: list[str],
    iterations: list[str],
    boxes: list[str],
    stores: list[str],
    groups: str,
    changes: str,
    worst: str,
    tested: TestedObjects,
) -> None:
    """Write what becomes of groups of objects and of the change rate by iteration, and the worst objects.

    Args:
        scores: `…/{dataset}/{model}/{seed}/{level}.csv` of stage score.
        iterations: `…/{dataset}/{model}/{seed}/{level}.parquet` of stage refine.
        boxes: `…/{dataset}.csv` of stage boxes.
        stores: `…/{dataset}.zarr` of stage convert.
        groups: CSV to write: dataset, model, level, by (all, size, direction, border), group, objects, box_iou (the
            mean IoU of given and exact boxes), miou, miou_iterated, gain with its interval, shares of objects that
            iteration makes worse (`worse`) and whose iteration ended at the cap (`capped`), mean_iterations. Seeds are
            taken together. Sizes are quartiles of the data set's areas in pixels, boxes are compared with the exact
            ones after being cut at the tile's border, a border object touches its tile's.
        changes: CSV to write: dataset, model, level, iteration, objects that took it, quartiles of their change rate.
        worst: CSV to write: of each data set and model at its highest level, the objects with the lowest iterated IoU
            (mean over seeds), with the slice and the centre of their box in it.
        tested: which objects these are.
    """
    exact = {
        Path(path).stem: exact_boxes(path, tested, Store.open(store)) for path, store in zip(boxes, stores, strict=True)
    }
    cells = [
        describe(score, history, exact[Cell.of(score).dataset])
        for score, history in zip(scores, iterations, strict=True)
    ]
    objects = pd.concat(cells, ignore_index=True)
    for path, lines, columns in (
        (groups, group_lines(objects), None),
        (changes, change_lines(iterations), CHANGES),  # none where no object had an iteration
        (worst, worst_lines(objects), None),
    ):
        with atomic(path) as partial:
            write_csv(lines, partial, columns)
