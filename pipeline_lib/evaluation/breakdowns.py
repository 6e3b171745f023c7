"""Show which objects gain or lose by iteration, and how fast their masks stop changing."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pipeline_lib.data.boxes import XYXY, box_iou, read_objects
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.paths import Cell
from pipeline_lib.data.tables import read_table
from pipeline_lib.evaluation.scores import KEYS
from pipeline_lib.evaluation.statistics import estimate, sums_by_group
from pipeline_lib.settings.experiment import TestedObjects

QUARTILES = (0.25, 0.5, 0.75)
WORST = 10  # number of objects that are listed for each data set and model
SAME_SIZE = 1e-3  # share of the exact box's area that rounding can change: coordinates are float32
UNCHANGED = "of the right size"  # name of the group of boxes without deviation
ROW = ["dataset", "model", "level"]
CHANGES = [*ROW, "iteration", "objects", "change_rate", "change_rate_low", "change_rate_high"]
HISTORY = [*KEYS, "iteration", *XYXY, "change_rate", "ended"]


def exact_boxes(path: str, tested: TestedObjects, store: Store) -> pd.DataFrame:
    """Return the tested objects of a data set with their groups and places.

    Args:
        path: table of the stage boxes.
        tested: which objects are tested.
        store: store of the data set.

    Returns:
        The columns of the table of boxes, and: size (the quartile of its area), border ("at the border" of its tile or
        "inside"), slice_in_volume, and x and y, the centre of the box in pixels of the slice.
    """
    table = read_objects(path, tested.split, tested.objects)
    height, width = np.transpose([store.shape(tile) for tile in table["tile"]])
    z, y, x = np.transpose([store.origin(tile) for tile in table["tile"]])
    border = (table["x0"] == 0) | (table["y0"] == 0) | (table["x1"] == width) | (table["y1"] == height)
    return table.assign(
        size=sizes(table["area"]),
        border=np.where(border, "at the border", "inside"),
        slice_in_volume=[store.slices[index].index for index in z],
        x=x + (table["x0"] + table["x1"]) / 2,
        y=y + (table["y0"] + table["y1"]) / 2,
    )


def sizes(areas: pd.Series) -> list[str]:
    """Return the bounds of the quartile of each area (pixels), such as "64–120". Equal bounds are merged."""
    bounds = np.unique(np.quantile(areas, [0, *QUARTILES, 1], method="lower"))
    place = np.clip(np.searchsorted(bounds, areas, side="right") - 1, 0, max(0, len(bounds) - 2))
    return [f"{bounds[i]:g}–{bounds[min(i + 1, len(bounds) - 1)]:g}" for i in place]


def describe(score: str, history: str, exact: pd.DataFrame) -> pd.DataFrame:
    """Return the objects of a cell with their scores and the groups that they belong to.

    Args:
        score: table of the stage score for the cell.
        history: table of the stage refine for the cell.
        exact: `exact_boxes` of the cell's data set.

    Returns:
        The columns of both tables, and: the cell, direction ("too large", "too small" or `UNCHANGED`), box_iou (of the
        prompt with the exact box), gain (in IoU by iteration), capped (whether iteration ended at its limit).
    """
    table = read_table(score).merge(exact.drop(columns=["area", "split"]), on=KEYS)
    steps = read_table(history, columns=HISTORY).sort_values([*KEYS, "iteration"]).groupby(KEYS)
    first, last = steps.first().reset_index(), steps.last().reset_index()
    prompts = table[KEYS].merge(first, on=KEYS)
    ratio = area(prompts) / area(table)
    return table.assign(
        **Cell.of(score)._asdict(),
        direction=np.select([ratio > 1 + SAME_SIZE, ratio < 1 - SAME_SIZE], ["too large", "too small"], UNCHANGED),
        box_iou=box_iou(prompts[XYXY].to_numpy(float), table[XYXY].to_numpy(float)),
        gain=table["iou_iterated"] - table["iou"],
        capped=table[KEYS].merge(last, on=KEYS)["ended"] == "cap",
    )


def area(boxes: pd.DataFrame) -> pd.Series:
    """Return the areas of XYXY boxes."""
    return (boxes["x1"] - boxes["x0"]) * (boxes["y1"] - boxes["y0"])


def group_lines(objects: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Yield the lines of groups.csv, for all seeds together."""
    for (dataset, model, level), cell in objects.groupby(ROW, sort=False):
        ordered, groups = cell.sort_values("area"), [("all", "all", cell)]
        for by in ("size", "direction", "border"):
            groups += [(by, str(group), members) for group, members in ordered.groupby(by, sort=False)]
        for by, group, members in groups:
            gain = estimate(sums_by_group(members.assign(seed="all").groupby(["seed", "slice"])["gain"]))
            yield {
                "dataset": dataset,
                "model": model,
                "level": level,
                "by": by,
                "group": group,
                "objects": members.groupby(KEYS).ngroups,
                "box_iou": members["box_iou"].mean(),
                "miou": members["iou"].mean(),
                "miou_iterated": members["iou_iterated"].mean(),
                "gain": gain.value,
                "gain_low": gain.low,
                "gain_high": gain.high,
                "worse": (members["gain"] < 0).mean(),
                "capped": members["capped"].mean(),
                "mean_iterations": members["iterations"].mean(),
            }


def change_lines(iterations: list[str]) -> Iterator[dict[str, object]]:
    """Yield the lines of changes.csv (`CHANGES`): quartiles of the change rate at each iteration, over all seeds."""
    cells = pd.DataFrame([Cell.of(path) for path in iterations]).assign(path=iterations)
    for (dataset, model, level), files in cells.groupby(ROW, sort=False)["path"]:
        rates = pd.concat(read_table(path, columns=["iteration", "change_rate"]) for path in files)
        for number, rate in rates[rates["iteration"] > 0].groupby("iteration")["change_rate"]:
            low, median, high = rate.quantile(QUARTILES)
            figures = (dataset, model, level, number, len(rate), median, low, high)
            yield dict(zip(CHANGES, figures, strict=True))


def worst_lines(objects: pd.DataFrame) -> Iterator[dict[str, object]]:
    """Yield the lines of worst.csv: the worst objects of each data set and model at the highest level.

    Figures are means over seeds.
    """
    top = objects[objects["level"] == objects["level"].max()]
    for (dataset, model, level), cell in top.groupby(ROW, sort=False):
        means = cell.groupby(KEYS)[["iou", "iou_iterated", "iterations"]].mean()
        places = cell.groupby(KEYS)[["slice_in_volume", "x", "y", "area", "border"]].first()
        for line in means.join(places).nsmallest(WORST, "iou_iterated").reset_index().to_dict("records"):
            yield {"dataset": dataset, "model": model, "level": level} | {str(name): line[name] for name in line}
