"""Make the page of a segmented set of images: whole images with their masks, then objects, the flagged ones first."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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
        flags=list(_raised(table["flags"], {**flags.plain(), "mask_extent": refine.mask_extent})),
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
        kept=_kept_when(refine),
        versions=versions(),
    )


def _kept_when(refine: RefineConfig) -> str:
    """Return a sentence that says which prediction of an object is kept, as `output_of` chooses it."""
    if refine.select == "last":
        return "The last prediction with a mask is kept."
    lead = f"{refine.lead:g}".removeprefix("0") or "0"
    return f"An iteration is kept only if its predicted IoU exceeds that of the first mask by more than {lead}."


def _raised(flags: pd.Series, limits: Mapping[str, float | None]) -> Iterator[dict[str, Any]]:
    """Yield the flags that objects have, with their meaning and the number of these objects.

    Args:
        flags: flags of each object.
        limits: thresholds of the flags, by name.
    """
    for flag, meaning in FLAGS.items():
        count = int(flags.str.contains(flag, regex=False).sum())
        if count:
            yield {"flag": flag, "count": count, "means": meaning.format(**limits)}


def _worst_first(flagged: pd.DataFrame) -> pd.Series:
    """Return the flags of flagged objects, by number: those with most flags first, then those with the lowest IoU."""
    keys = flagged.assign(count=-flagged["flags"].str.count(";")).sort_values(["count", "predicted_iou"], kind="stable")
    return keys["flags"]


def _spread(calm: pd.DataFrame) -> pd.Series:
    """Return the (empty) flags of some objects, by number, evenly spaced from lowest to highest predicted IoU."""
    ordered = calm.sort_values("predicted_iou", kind="stable").index
    places = np.unique(np.linspace(0, len(ordered) - 1, min(BROWSED, len(ordered))).round().astype(int))
    return calm["flags"].loc[ordered[places]]


def _examples(masks: MaskSet, iterations: pd.DataFrame, flags: pd.Series, in_pictures: set[int]) -> Iterator[Example]:
    """Yield objects with their flags and all of their predictions. Pixels are read object by object.

    Args:
        masks: masks, boxes, windows and images.
        iterations: table of the stage segment.
        flags: flags of the objects to show, by number.
        in_pictures: numbers of the objects that are in a picture of the page.
    """
    prompts = masks.instances.prompts
    by_box = iterations[iterations["box"].isin(flags.index)].groupby("box")
    histories = {int(str(number)): rows for number, rows in by_box}
    for number, text in zip(flags.index.astype(int), flags, strict=True):
        history, box = histories[number], prompts.boxes.loc[number]
        image, z, rows, columns = prompts.place(int(history["window"].iloc[0]))
        part = masks.pixels(image, z, rows, columns)
        history_masks = [from_rle(counts, part.shape[:2]) for counts in history["mask"]]
        y, x = crop_window(np.logical_or.reduce(history_masks), history[XYXY].to_numpy(np.float64))
        place = f"{image.name}{f', slice {z}' if image.shape[0] > 1 else ''}"
        yield Example(
            name=f"object-{number}",
            heading=f"{number} {box['label']}".strip(),
            says="; ".join(filter(None, [text, f"{place}, at {columns.start + x.start}, {rows.start + y.start}"])),
            crop=part[y, x],
            panels=predictions(history, history_masks, history["predicted_iou"].tolist(), y, x),
            place=f"drawn-{number}" if number in in_pictures else "",
        ).reduced(SIDE)
