"""The page that says how given boxes deviate from exact ones."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from pipeline_lib.evaluation.deviations import EDGES, LEVELS, Deviations, figures
from pipeline_lib.report.charts import COLOURS, INK, drawing
from pipeline_lib.report.page import render

TEMPLATE = "deviations.html.j2"
MOST = 95  # percentile of the boxes' levels that decides the advice
FAR = 0.2  # of a side: a shift that the levels of the tables do not contain
ADVICE = {  # by the highest level that it is for, per cent
    10: "The boxes are nearly exact. A model that was trained on exact boxes does, and so does the shipped one.",
    40: "The boxes are loose, within what the shipped model was trained for (40 %). Use it, or fine-tune it with "
    "loosebox train.",
    100: "Many boxes deviate by more than any model here was trained for (40 %). Look at the worst boxes first, train "
    "the detector for longer, or fine-tune the shipped model and look at the flags of its masks.",
}


def advice(pairs: pd.DataFrame) -> str:
    """Return which model suits the boxes."""
    highest = float(np.percentile(pairs["level"], MOST))
    return next(words for level, words in ADVICE.items() if highest <= level)


def deviations_page(name: str, found: Deviations, settings: Mapping[str, Any]) -> str:
    """Return the page as HTML, which opens from disk and asks no host for anything.

    Args:
        name: of what was compared.
        found: matched boxes.
        settings: settings by their names.

    """
    pairs, slices = found.pairs, found.slices
    shifted = float((pairs[["shift_x", "shift_y"]].abs().max(axis=1) > FAR).mean())
    return render(
        TEMPLATE,
        name=name,
        totals=slices.drop(columns=["image", "slice"]).sum().to_dict(),
        slices=slices.to_dict("records"),
        figures=figures(pairs),
        advice=advice(pairs),
        shifted=shifted,
        far=FAR,
        quartiles=pairs[[*EDGES, "scale", "shift_x", "shift_y"]].quantile([0.05, 0.25, 0.5, 0.75, 0.95]).T,
        charts=charts(pairs),
        settings=settings,
    )


def charts(pairs: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return the title, words and SVG of each chart."""
    levels = "Share of the matched boxes whose level is at most the one on the axis"
    edges = "How far each edge of the boxes lies outside the object, in shares of its side: quartiles and 5 to 95 %"
    return [
        ("Boxes by level", *drawing(partial(_by_level, pairs), levels, "deviation levels")),
        ("Edge by edge", *drawing(partial(_by_edge, pairs), edges, "deviation edges")),
    ]


def _by_level(pairs: pd.DataFrame, axes: Axes) -> None:
    levels = np.sort(pairs["level"])
    axes.step(levels, np.arange(1, len(levels) + 1) / len(levels), where="post", color=COLOURS[0])
    axes.set(xlabel="level of deviation, %", ylabel="share of boxes", xlim=(0, 100), ylim=(0, 1.02))
    axes.set(xticks=[0, *LEVELS, 60, 80, 100])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def _by_edge(pairs: pd.DataFrame, axes: Axes) -> None:
    line = {"color": COLOURS[0]}
    axes.boxplot(
        [100 * pairs[edge] for edge in EDGES],
        tick_labels=list(EDGES),
        whis=(5, 95),
        showfliers=False,
        boxprops=line,
        whiskerprops=line,
        capprops=line,
        medianprops={"color": COLOURS[1]},
    )
    axes.axhline(0, color=INK, linewidth=1)
    axes.set(ylabel="outside the object, % of its side")
