"""The page of a segmented set of images: whole images with their masks, then their objects, flagged ones first."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.mask_formats.mask_format import MaskSet
from pipeline_lib.data.masks import from_rle
from pipeline_lib.data.model_header import described
from pipeline_lib.data.objects_summary import objects_summary
from pipeline_lib.data.objects_table import FLAGS
from pipeline_lib.report.examples import Example, crop_window, predictions
from pipeline_lib.report.overviews import overviews
from pipeline_lib.report.page import render, within_budget
from pipeline_lib.report.provenance import versions

MOST = 500  # flagged objects that are considered for a card with pictures
BROWSED = 200  # others that are
BUDGET = 3_000_000  # bytes of the cards of flagged objects, and of the others
SIDE = 160  # pixels: the longer side of a card's picture, about
LISTED = 200  # rows of a table in the page; all are in the files


def predictions_page(
    name: str,
    masks: MaskSet,
    iterations: pd.DataFrame,
    table: pd.DataFrame,
    labels: str,
    weights: str,
    model: str | None,
) -> str:
    """The page as HTML, which opens from disk and asks no host for anything.

    Args:
        name: of the set.
        masks: masks, boxes, windows and images.
        iterations: the stage segment's rows.
        table: of `objects_table`.
        labels: OME-Zarr of the set.
        weights: manifest of the backbone.
        model: that segmented; None is the backbone as it is.
    """
    skipped = table["flags"].str.startswith("skipped")
    raised = {flag: int(table["flags"].str.contains(flag, regex=False).sum()) for flag in FLAGS}
    flagged, calm = table[(table["flags"] != "") & ~skipped], table[table["flags"] == ""]
    whole = list(overviews(masks.instances, table, Path(labels)))
    drawn = [each.number for overview in whole for each in overview.objects]
    shown, browsed = (
        list(within_budget(_examples(masks, iterations, numbers, {*drawn}), BUDGET))
        for numbers in (_worst_first(flagged).head(MOST), _spread(calm))
    )
    with_card = {each.name for each in (*shown, *browsed)}
    without_card = [number for number in sorted(drawn) if f"object-{number}" not in with_card]
    given, summary = masks.instances.prompts, objects_summary(table)
    return render(
        "predictions.html.j2",
        name=name,
        images=len(given.images),
        windows=len(given.windows),
        boxes=len(table),
        segmented=int((~skipped).sum()),
        skipped=table[skipped].head(LISTED).to_dict("records"),
        skipped_count=int(skipped.sum()),
        flags=[{"flag": flag, "means": FLAGS[flag], "count": count} for flag, count in raised.items() if count],
        overviews=whole,
        slices=table.loc[~skipped, ["image", "slice"]].drop_duplicates().shape[0],
        summary=summary.head(LISTED).to_dict("records"),
        summary_count=len(summary),
        flagged=shown,
        flagged_count=len(flagged),
        browsed=browsed,
        rows=table.loc[without_card].reset_index().to_dict("records"),
        backbone=Backbone.read(weights),
        model=model and str(Path(model)),
        described=described(model, Backbone.read(weights)),
        versions=versions(),
    )


def _worst_first(flagged: pd.DataFrame) -> pd.Series:
    """The flags of flagged objects by number: those with most flags first, of these the boxes that moved farthest."""
    keys = pd.DataFrame({"flags": flagged["flags"].str.count(";"), "moved": flagged["moved"].fillna(1)})
    return flagged["flags"].loc[keys.sort_values(["flags", "moved"], ascending=False, kind="stable").index]


def _spread(calm: pd.DataFrame) -> pd.Series:
    """No flags of objects by number, evenly spaced from the lowest predicted IoU to the highest."""
    ordered = calm.sort_values("predicted_iou", kind="stable").index
    places = np.unique(np.linspace(0, len(ordered) - 1, min(BROWSED, len(ordered))).round().astype(int))
    return calm["flags"].loc[ordered[places]]


def _examples(masks: MaskSet, iterations: pd.DataFrame, shown: pd.Series, drawn: set[int]) -> Iterator[Example]:
    """Objects by number, each with its flags and all its predictions; their pixels are read one after the other."""
    given = masks.instances.prompts
    own = iterations[iterations["box"].isin(shown.index)].groupby("box")
    histories = {int(str(number)): rows for number, rows in own}
    for number, flags in zip(shown.index.astype(int), shown, strict=True):
        history, box = histories[number], given.boxes.loc[number]
        image, z, rows, columns = given.place(int(history["window"].iloc[0]))
        part = masks.pixels(image, z, rows, columns)
        predicted = [from_rle(counts, part.shape[:2]) for counts in history["mask"]]
        boxes = history[XYXY].to_numpy(np.float64)
        y, x = crop_window(np.logical_or.reduce(predicted), boxes)
        place = f"{image.name}{f', slice {z}' if image.shape[0] > 1 else ''}"
        yield Example(
            name=f"object-{number}",
            heading=f"{number} {box['label']}".strip(),
            says="; ".join(filter(None, [flags, f"{place}, at {columns.start + x.start}, {rows.start + y.start}"])),
            crop=part[y, x],
            panels=predictions(predicted, boxes, history["predicted_iou"].tolist(), y, x),
            place=f"drawn-{number}" if number in drawn else "",
        ).reduced(SIDE)
