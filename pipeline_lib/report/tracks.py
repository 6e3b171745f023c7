"""The page of a volume: its objects slice by slice, those that need a look first."""

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
from pipeline_lib.report.page import render, within_budget
from pipeline_lib.report.provenance import versions

SHOWN = 9  # slices of an object, evenly spaced
REFUSED = (232, 72, 85)  # RGB, of the mask that ended an object
SIDE = 96  # pixels: crops are thinned out until their longer side is at most this
MOST = 4 * BUDGET  # bytes of each of the two lists of objects


@dataclass(frozen=True)
class Strip:
    """An object in some of its slices."""

    heading: str
    says: str
    slices: list[Example]  # each with the crop of its slice, and one panel

    @property
    def bytes(self) -> int:
        """About what it adds to the page."""
        return sum(each.bytes for each in self.slices)


def tracks_page(
    name: str, tracks: Tracks, slices: pd.DataFrame, table: pd.DataFrame, weights: str, model: str | None
) -> str:
    """Return the page as HTML, which opens from disk and asks no host for anything.

    Args:
        name: Of the set.
        tracks: Masks of all objects.
        slices: `slices_table`.
        table: `volume_table`.
        weights: Manifest of the backbone.
        model: That segmented; None is the backbone as it is.
    """
    skipped = table["flags"].str.startswith("skipped")
    raised = {flag: int(table["flags"].str.contains(flag, regex=False).sum()) for flag in FLAGS}
    flagged, calm = table[(table["flags"] != "") & ~skipped], table[table["flags"] == ""]
    order = flagged.assign(count=flagged["flags"].str.count(";")).sort_values("count", ascending=False, kind="stable")
    encoded = tracks.rows.drop_duplicates(["direction", "slice", "window_y", "window_x", "window_side"])
    return render(
        "tracks.html.j2",
        name=name,
        depth=tracks.image.shape[0],
        objects=len(table),
        skipped=int(skipped.sum()),
        flags=[{"flag": flag, "means": FLAGS[flag], "count": count} for flag, count in raised.items() if count],
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
        own = slices[slices["object"] == number]
        extent = f"slices {row['first_slice']:.0f} to {row['last_slice']:.0f}" if len(own) else "no slice"
        ends = f"ends: {row['before_first']}; {row['after_last']}" if len(own) else ""
        part = _part(tracks, own) if len(own) else (slice(0, 0), slice(0, 0))
        yield Strip(
            heading=" ".join(filter(None, [str(number), row["name"], row["label"]])),
            says="; ".join(filter(None, [row["flags"], f"{row['voxels']} voxels, {extent}", ends])),
            slices=[_shown(tracks, pixels, each, part) for each in _chosen(tracks, number)] if len(own) else [],
        )


def _chosen(tracks: Tracks, number: Hashable) -> list[Row]:
    """Return the rows of `TRACKS` that show an object: some of its slices, and those before which it ended."""
    own = tracks.masks[tracks.masks["object"] == number]
    places = np.unique(np.linspace(0, len(own) - 1, min(SHOWN, len(own))).round().astype(int))
    ended = tracks.rows[(tracks.rows["object"] == number) & tracks.rows["ended"].notna()]
    ended = ended[~ended["slice"].isin(own["slice"])]
    shown = [*own.iloc[places].to_dict("records"), *ended.to_dict("records")]
    return sorted(shown, key=lambda row: row["slice"])


def _part(tracks: Tracks, own: pd.DataFrame) -> tuple[slice, slice]:
    """Return the rows and columns that all crops of an object show, from its part of `slices_table`."""
    _, height, width = tracks.image.shape
    low, high = own[XYXY[:2]].min().to_numpy() - MARGIN, own[XYXY[2:]].max().to_numpy() + MARGIN
    (x0, y0), (x1, y1) = np.maximum(low, 0).astype(int), np.minimum(high, (width, height)).astype(int)
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


def _shown(tracks: Tracks, pixels: Pixels, row: Row, part: tuple[slice, slice]) -> Example:
    """Return the crop of one slice, with the mask of a row of `TRACKS`."""
    (y, x), z, placed = part, row["slice"], placed_mask(row, tracks.image)
    mask = np.zeros(tracks.image.shape[1:], bool)
    mask[placed.y : placed.y + placed.mask.shape[0], placed.x : placed.x + placed.mask.shape[1]] = placed.mask
    step = max(1, -(-max(y.stop - y.start, x.stop - x.start) // SIDE))
    crop, shown = pixels.part(tracks.image, z, y, x)[::step, ::step].copy(), mask[y, x][::step, ::step].copy()
    refused = isinstance(row["ended"], str)  # of the others it is missing
    title, colour = (f"slice {z}, refused", REFUSED) if refused else (f"slice {z}", PREDICTED)
    iou = f"{row['predicted_iou']:.3f}".removeprefix("0")
    name = f"object-{row['object']}-{row['start']}-{z}"
    return Example(name, "", "", crop, [Panel(title, iou, shown, colour, None)])
