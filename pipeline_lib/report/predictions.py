"""Make the page of a segmented set of images: whole images with their masks, then objects, the flagged ones first."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import XYXY, evenly_spaced
from pipeline_lib.data.mask_formats.mask_format import MaskSet
from pipeline_lib.data.masks import from_rle
from pipeline_lib.data.model_header import described
from pipeline_lib.data.objects_summary import objects_summary
from pipeline_lib.data.objects_table import FLAGS, GIVEN
from pipeline_lib.report.examples import Example, crop_window, predictions
from pipeline_lib.report.overviews import overviews
from pipeline_lib.report.page import raised_flags, render, within_budget
from pipeline_lib.report.provenance import versions
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.segment import Flags

MOST = 500  # most flagged objects that get a card with pictures
BROWSED = 200  # most other objects that get a card
BUDGET = 3_000_000  # largest size of the cards of flagged objects, and of the others, bytes
SIDE = 160  # approximate longer side of a card's picture, pixels
LISTED = 200  # most rows of a table in the page; the files have all rows


def predictions_page(
    name: str,
    masks: MaskSet,
    iterations: pd.DataFrame,
    table: pd.DataFrame,
    labels: str,
    weights: str,
    model: str | None,
    flags: Flags,
    refine: RefineConfig,
) -> str:
    """Return the page as HTML, which opens from disk without a network.

    Args:
        name: name of the set.
        masks: masks, boxes, windows and images.
        iterations: table of the stage segment.
        table: table of `objects_table`.
        labels: OME-Zarr of the set.
        weights: manifest of the backbone.
        model: file of the model that made the masks; None: the backbone as it is.
        flags: thresholds of the flags.
        refine: how masks were iterated, cut and chosen.
    """
    skipped = table["flags"].str.startswith("skipped")
    table = table.assign(title=object_titles(table["label"]))
    flagged, calm = table[(table["flags"] != "") & ~skipped], table[table["flags"] == ""]
    whole = list(overviews(masks.instances, table, Path(labels)))
    in_pictures = {each.number for overview in whole for each in overview.objects}
    flagged_cards, other_cards = (
        list(within_budget(_examples(masks, iterations, shown, in_pictures), BUDGET))
        for shown in (_worst_first(flagged).head(MOST), _spread(calm))
    )
    with_card = {each.name for each in (*flagged_cards, *other_cards)}
    without_card = [number for number in sorted(in_pictures) if f"object-{number}" not in with_card]
    prompts, summary = masks.instances.prompts, objects_summary(table)
    return render(
        "predictions.html.j2",
        name=name,
        images=len(prompts.images),
        windows=len(prompts.windows),
        boxes=len(table),
        segmented=int((~skipped).sum()),
        skipped=table[skipped].head(LISTED).to_dict("records"),
        skipped_count=int(skipped.sum()),
        flags=list(raised_flags(table["flags"], FLAGS, {**flags.plain(), "mask_extent": refine.mask_extent})),
        overviews=whole,
        slices=table.loc[~skipped, ["image", "slice"]].drop_duplicates().shape[0],
        summary=summary.head(LISTED).to_dict("records"),
        summary_count=len(summary),
        flagged=flagged_cards,
        flagged_count=len(flagged),
        browsed=other_cards,
        rows=table.loc[without_card].reset_index().to_dict("records"),
        backbone=Backbone.read(weights),
        model=model and str(Path(model)),
        described=described(model, Backbone.read(weights)),
        kept=kept_when(refine),
        versions=versions(),
    )


def kept_when(refine: RefineConfig) -> str:
    """Return a sentence that says which prediction of an object is kept, as `output_of` chooses it."""
    if refine.select == "last":
        return "The last prediction with a mask is kept."
    by = f" by more than {refine.lead:g}".replace(" 0.", " .") if refine.lead else ""
    return f"An iteration is kept only if its predicted IoU exceeds that of the first mask{by}."


def object_titles(labels: pd.Series) -> list[str]:
    """Return what the page calls each object, from the classes by number. A single class is left out."""
    has_classes = labels.nunique() > 1
    return [
        f"object {number}, class {label}" if has_classes and label else f"object {number}"
        for number, label in labels.items()
    ]


def _worst_first(flagged: pd.DataFrame) -> pd.DataFrame:
    """Return flagged objects, those with most flags first, then those with the lowest predicted IoU."""
    counted = flagged.assign(count=flagged["flags"].str.count(";"))
    return counted.sort_values(["count", "predicted_iou"], ascending=[False, True], kind="stable")


def _spread(calm: pd.DataFrame) -> pd.DataFrame:
    """Return some objects, evenly spaced from the lowest to the highest predicted IoU."""
    return evenly_spaced(calm.sort_values("predicted_iou", kind="stable"), BROWSED)


def _examples(masks: MaskSet, iterations: pd.DataFrame, objects: pd.DataFrame, in_pictures: set[int]) -> list[Example]:
    """Return objects in their order, with their flags and all of their predictions.

    They are made in the order of windows, so that each slice is read once.

    Args:
        masks: masks, boxes, windows and images.
        iterations: table of the stage segment.
        objects: rows of `objects_table` to show, with the column `title`.
        in_pictures: numbers of the objects that are in a picture of the page.
    """
    shown = iterations[iterations["box"].isin(objects.index)].sort_values("window", kind="stable")
    rows, examples = objects.to_dict("index"), {}
    for key, history in shown.groupby("box", sort=False):
        number = int(str(key))
        place = f"drawn-{number}" if number in in_pictures else ""
        examples[number] = _example(f"object-{number}", masks, history, rows[number], place)
    return [examples[number] for number in objects.index]


def _example(name: str, masks: MaskSet, history: pd.DataFrame, row: Mapping[Hashable, Any], place: str) -> Example:
    """Return an object with its predictions, the rows of `history`. `place` is the name of its outline in the page."""
    image, z, rows, columns = masks.instances.prompts.place(int(history["window"].iloc[0]))
    part = masks.pixels(image, z, rows, columns)
    history_masks = [from_rle(counts, part.shape[:2]) for counts in history["mask"]]
    y, x = crop_window(np.logical_or.reduce(history_masks), history[XYXY].to_numpy(np.float64))
    x0, y0, x1, y1 = (f"{row[edge]:.0f}" for edge in GIVEN)
    where = f"{image.name}{f', slice {z}' if image.shape[0] > 1 else ''}, box from ({x0}, {y0}) to ({x1}, {y1})"
    return Example(
        name=name,
        heading=row["title"],
        says="; ".join(filter(None, [row["flags"], where])),
        crop=part[y, x].copy(),  # a view would keep the whole slice in memory
        panels=predictions(history, history_masks, history["predicted_iou"].tolist(), y, x),
        place=place,
    ).reduced(SIDE)
