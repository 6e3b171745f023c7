"""Make the page of a volume: its objects slice by slice, the flagged ones first."""

import math
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.images import Pixels
from pipeline_lib.data.model_header import described
from pipeline_lib.data.track_tables import ENDS, FLAGS
from pipeline_lib.data.tracks import Row, Tracks, placed_mask
from pipeline_lib.report.examples import BUDGET, MARGIN, PREDICTED, Example, Panel
from pipeline_lib.report.page import raised_flags, render, within_budget
from pipeline_lib.report.provenance import versions
from pipeline_lib.settings.segment import TrackFlags

SHOWN = 9  # slices that are shown of an object, evenly spaced
REFUSED = (232, 72, 85)  # RGB of a mask that was rejected and ended its object
SIDE = 96  # largest side of a crop, pixels; larger crops are subsampled
MOST = 4 * BUDGET  # largest size of each of the two lists of objects, bytes


@dataclass(frozen=True)
class Strip:
    """An object in some of its slices."""

    heading: str
    says: str  # description
    slices: list[Example]  # each with the crop of its slice, and one panel

    @property
    def bytes(self) -> int:
        """Approximate size in the page, bytes."""
        return sum(each.bytes for each in self.slices)


def tracks_page(
    name: str,
    tracks: Tracks,
    slices: pd.DataFrame,
    table: pd.DataFrame,
    weights: str,
    model: str | None,
    flags: TrackFlags,
) -> str:
    """Return the page as HTML, which opens from disk without a network.

    Args:
        name: Name of the set.
        tracks: Masks of all objects.
        slices: Table of `slices_table`.
        table: Table of `volume_table`.
        weights: Manifest of the backbone.
        model: File of the model that made the masks; None: the backbone as it is.
        flags: Thresholds of the flags.
    """
    skipped = table["flags"].str.startswith("skipped")
    flagged, calm = table[(table["flags"] != "") & ~skipped], table[table["flags"] == ""]
    order = flagged.assign(count=flagged["flags"].str.count(";")).sort_values("count", ascending=False, kind="stable")
    encoded = tracks.rows.drop_duplicates(["direction", "slice", "window_y", "window_x", "window_side"])
    return render(
        "tracks.html.j2",
        name=name,
        depth=tracks.image.shape[0],
        objects=len(table),
        skipped=int(skipped.sum()),
        flags=list(raised_flags(table["flags"], FLAGS, flags.plain())),
        ends=ENDS,
        flagged=list(within_budget(_strips(tracks, slices, order), MOST)),
        flagged_count=len(flagged),
        others=list(within_budget(_strips(tracks, slices, calm.sort_values("predicted_iou", kind="stable")), MOST)),
        others_count=len(calm),
        windows=len(encoded),
        backbone=Backbone.read(weights),
        model=model and str(Path(model)),
        described=described(model, Backbone.read(weights)),
        versions=versions(),
    )


def _strips(tracks: Tracks, slices: pd.DataFrame, table: pd.DataFrame) -> Iterator[Strip]:
    """Yield the strip of each object of a table."""
    pixels = Pixels()
    for number, row in table.iterrows():
        rows = slices[slices["object"] == number]
        summary = f"{row['voxels']} voxels, no slice"
        ends, examples = "", []
        if len(rows):
            summary = f"{row['voxels']} voxels, slices {row['first_slice']:.0f} to {row['last_slice']:.0f}"
            ends = f"ends: {row['before_first']}; {row['after_last']}"
            crop = _crop_of(tracks, rows)
            examples = [_example(tracks, pixels, each, crop) for each in _choose_rows(tracks, number)]
        yield Strip(
            heading=" ".join(filter(None, [str(number), row["name"], row["label"]])),
            says="; ".join(filter(None, [row["flags"], summary, ends])),
            slices=examples,
        )


def _choose_rows(tracks: Tracks, number: Hashable) -> list[Row]:
    """Return the rows of `TRACKS` that show an object: some of its slices, and the slices before which it ended."""
    masks = tracks.masks[tracks.masks["object"] == number]
    places = np.unique(np.linspace(0, len(masks) - 1, min(SHOWN, len(masks))).round().astype(int))
    ended = tracks.rows[(tracks.rows["object"] == number) & tracks.rows["ended"].notna()]
    ended = ended[~ended["slice"].isin(masks["slice"])]
    rows = [*masks.iloc[places].to_dict("records"), *ended.to_dict("records")]
    return sorted(rows, key=lambda row: row["slice"])


def _crop_of(tracks: Tracks, rows: pd.DataFrame) -> tuple[slice, slice]:
    """Return the rows and columns (slices) of all crops of an object, from its rows of `slices_table`."""
    _, height, width = tracks.image.shape
    low, high = rows[XYXY[:2]].min().to_numpy() - MARGIN, rows[XYXY[2:]].max().to_numpy() + MARGIN
    (x0, y0), (x1, y1) = np.maximum(low, 0).astype(int), np.minimum(high, (width, height)).astype(int)
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


def _example(tracks: Tracks, pixels: Pixels, row: Row, crop: tuple[slice, slice]) -> Example:
    """Return the crop of one slice, with the mask of a row of `TRACKS`."""
    (y, x), z, placed = crop, row["slice"], placed_mask(row, tracks.image)
    mask = np.zeros(tracks.image.shape[1:], bool)
    mask[placed.y : placed.y + placed.mask.shape[0], placed.x : placed.x + placed.mask.shape[1]] = placed.mask
    step = max(1, math.ceil(max(y.stop - y.start, x.stop - x.start) / SIDE))
    image = pixels.part(tracks.image, z, y, x)[::step, ::step].copy()
    is_refused = isinstance(row["ended"], str)  # in other rows it is None or NaN
    title, colour = (f"slice {z}, refused", REFUSED) if is_refused else (f"slice {z}", PREDICTED)
    iou = f"{row['predicted_iou']:.3f}".removeprefix("0")
    name = f"object-{row['object']}-{row['start']}-{z}"
    return Example(name, "", "", image, [Panel(title, iou, mask[y, x][::step, ::step].copy(), colour, None)])
