"""The page of a volume: its objects slice by slice, those that need a look first."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.images import Pixels
from pipeline_lib.data.model_header import described
from pipeline_lib.data.track_tables import ENDS, FLAGS
from pipeline_lib.data.tracks import Tracks
from pipeline_lib.report.examples import BUDGET, MARGIN, PREDICTED, Example, Panel
from pipeline_lib.report.page import render, within_budget
from pipeline_lib.report.provenance import versions

SHOWN = 9  # slices of an object, evenly spaced
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
        own = slices[slices["object"] == number].sort_values("slice", ignore_index=True)
        places = np.unique(np.linspace(0, len(own) - 1, min(SHOWN, len(own))).round().astype(int))
        extent = f"slices {row['first_slice']:.0f} to {row['last_slice']:.0f}" if len(own) else "no slice"
        ends = f"ends: {row['before_first']}; {row['after_last']}" if len(own) else ""
        yield Strip(
            heading=" ".join(filter(None, [str(number), row["name"], row["label"]])),
            says="; ".join(filter(None, [row["flags"], f"{row['voxels']} voxels, {extent}", ends])),
            slices=[_shown(tracks, pixels, own, int(place)) for place in places],
        )


def _shown(tracks: Tracks, pixels: Pixels, own: pd.DataFrame, place: int) -> Example:
    """Return the crop of one slice, with the object's mask; all crops of an object show the same part."""
    row = own.iloc[place]
    number, z = int(row["object"]), int(row["slice"])
    low = own[XYXY[:2]].min().to_numpy() - MARGIN
    high = own[XYXY[2:]].max().to_numpy() + MARGIN
    _, height, width = tracks.image.shape
    (x0, y0), (x1, y1) = np.maximum(low, 0).astype(int), np.minimum(high, (width, height)).astype(int)
    step = max(1, -(-max(x1 - x0, y1 - y0) // SIDE))
    instances = tracks.instances(z)
    found, mask = instances.masks[number], np.zeros((y1 - y0, x1 - x0), bool)
    mask[found.y0 - y0 : found.y1 - y0, found.x0 - x0 : found.x1 - x0] = instances.crop(number)
    crop = pixels.part(tracks.image, z, slice(int(y0), int(y1)), slice(int(x0), int(x1)))
    iou = f"{row['predicted_iou']:.3f}".removeprefix("0")
    panel = Panel(f"slice {z}", iou, mask[::step, ::step], PREDICTED, None)
    return Example(f"object-{number}-{z}", "", "", np.ascontiguousarray(crop[::step, ::step]), [panel])
