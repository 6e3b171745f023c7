"""Make the page of a fine-tuning: its gain on held-out objects, its training data, and how to use the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.dataset import Store
from pipeline_lib.evaluation.statistics import FEW_SLICES
from pipeline_lib.report.charts import by_level, drawing, line_of
from pipeline_lib.report.hardware import hardware
from pipeline_lib.report.page import render
from pipeline_lib.report.provenance import versions

TEMPLATE = "fine_tuning.html.j2"


@dataclass(frozen=True)
class FineTuning:
    """A fine-tuning, as the page describes it."""

    name: str
    """Name of the fine-tuning, which is that of its folder."""
    start: str
    """Description of the model or backbone that training started from."""
    labels: str
    """Sentence that says what the label values mean."""
    usage: str
    """Command that uses the model."""
    gains: pd.DataFrame
    """Table of `gains`."""
    curve: pd.DataFrame
    """Curve of the stage train."""
    objects: pd.DataFrame
    """Training objects and held-out objects, as the stage boxes writes them."""
    tested: int
    """Number of held-out objects that were segmented."""
    cut: int
    """Number of objects that reach from one side of their tile to the other."""
    images: pd.DataFrame
    """Table of `images_table`."""
    settings: Mapping[str, Any]
    """Settings by their names."""


def images_table(store: str, objects: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the slices of a training: their image, slice, split, height and width (pixels), tiles and objects.

    Args:
        store: OME-Zarr store of the stage convert.
        objects: training and held-out objects, as the stage boxes writes them.
        names: name of the image of each volume.
    """
    tiles = Store.open(store)
    counts = objects["tile"].value_counts()  # objects of each tile
    origins = {int(tile): tiles.origin(int(tile))[0] for tile in counts.index}
    rows = []
    for z, each in enumerate(tiles.slices):
        of_slice = [int(count) for tile, count in counts.items() if origins[int(str(tile))] == z]
        place = {"image": names[each.volume], "slice": each.index, "split": each.split}
        size = {"height": each.size[0], "width": each.size[1], "tiles": len(of_slice), "objects": sum(of_slice)}
        rows.append(place | size)
    return pd.DataFrame(rows)


def fine_tuning_page(tuning: FineTuning, weights: str) -> str:
    """Return the page as HTML, which opens from disk without a network.

    Args:
        tuning: the fine-tuning.
        weights: manifest of the backbone.
    """
    trained, held_out = (tuning.images[tuning.images["split"] == split] for split in ("train", "validation"))
    best = tuning.curve[tuning.curve["kept"]].iloc[0]
    return render(
        TEMPLATE,
        tuning=tuning,
        gains=tuning.gains.to_dict("records"),
        mean=tuning.gains[["before", "after"]].mean(),
        with_interval=bool(tuning.gains["gain_low"].notna().all()),
        trained_objects=int((tuning.objects["split"] == "train").sum()),
        trained_images=len(trained),
        held_out_images=len(held_out),
        few=FEW_SLICES,
        images=tuning.images.to_dict("records"),
        epochs=int(tuning.curve["epoch"].max()),
        kept=int(best["epoch"]),
        charts=charts(tuning),
        backbone=Backbone.read(weights),
        versions=versions(),
        hardware=hardware(),
    )


def charts(tuning: FineTuning) -> list[tuple[str, str, str]]:
    """Return the title, words and SVG of each chart."""
    miou = "mIoU of the held-out objects by deviation of their boxes, before and after training"
    epochs = "mIoU of the held-out objects that pick the best epoch, by epoch"
    return [
        ("Held-out objects, before and after", *drawing(partial(_gains, tuning.gains), miou, "fine-tuning gains")),
        ("Validation", *drawing(partial(_validation, tuning.curve), epochs, "fine-tuning validation")),
    ]


def _gains(table: pd.DataFrame, axes: Axes) -> None:
    curves: list[tuple[str, pd.DataFrame, Mapping[int, float]]] = [
        (when, table.rename(columns={when: "miou"}), {}) for when in ("before", "after")
    ]
    by_level(axes, curves, "miou", "mIoU")


def _validation(curve: pd.DataFrame, axes: Axes) -> None:
    line_of(axes, 0, "validation", curve, "epoch", "validation_miou")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel="validation mIoU")
