"""Make the page that shows how boxes deviate from exact ones."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from pipeline_lib.data.measured_deviations import EDGES
from pipeline_lib.evaluation.deviations import LEVELS, Deviations, figures
from pipeline_lib.report.charts import COLOURS, INK, drawing
from pipeline_lib.report.page import render
from pipeline_lib.runtime.atomic import atomic

TEMPLATE = "deviations.html.j2"
MOST = 95  # percentile of the boxes' levels that decides the advice
FAR = 0.2  # share of a side; the tables do not test shifts beyond it
OFTEN = 0.1  # share of objects or boxes above which the advice mentions a fault
ADVICE = {  # by the highest level that it applies to, per cent
    10: "The boxes are nearly exact. A model that was trained on exact boxes suits them. So does the shipped model.",
    40: "The boxes are loose, within what the shipped model was trained for (40 %). Use it, or fine-tune it with "
    "loosebox train.",
    100: "Many boxes deviate by more than any model here was trained for (40 %). Look at the worst boxes first. Train "
    "the detector for longer, or fine-tune the shipped model and look at the flags of its masks.",
}


def advice(matched: Deviations) -> str:
    """Return which model suits the boxes, and which faults no model can correct."""
    highest = float(np.percentile(matched.pairs["level"], MOST).round(3))
    sentences = [next(words for level, words in ADVICE.items() if highest <= level)]
    if shifted(matched.pairs) > OFTEN:
        sentences.append(f"Many boxes are shifted by more than {FAR:.0%} of a side, which models tolerate less.")
    totals = matched.slices.sum(numeric_only=True)
    if totals["missed"] > OFTEN * totals["objects"]:
        sentences.append("Many objects have no box: no model finds them.")
    if totals["stray"] > OFTEN * totals["boxes"]:
        sentences.append("Many boxes show no labelled object: each of them becomes a mask. Try a higher minimum score.")
    return " ".join(sentences)


def shifted(pairs: pd.DataFrame) -> float:
    """Return the share of boxes whose centre is off by more than `FAR` of a side."""
    return float((pairs[["shift_x", "shift_y"]].abs().max(axis=1) > FAR).mean())


def counts(matched: Deviations) -> str:
    """Return how many objects have a box, and what the other boxes show."""
    totals = matched.slices.sum(numeric_only=True).astype(int)
    return (
        f"{totals['matched']} of {totals['objects']} labelled objects have a box. {totals['missed']} have none. Of "
        f"{totals['boxes']} boxes, {totals['doubled']} show an object that another box fits better, and "
        f"{totals['stray']} show no labelled object."
    )


def write_deviations(folder: Path, name: str, matched: Deviations, settings: Mapping[str, Any]) -> None:
    """Write deviations.csv, slices.csv and deviations.html.

    Args:
        folder: folder to write to.
        name: title of the page.
        matched: matched boxes.
        settings: settings by their names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stem, table in {"deviations": matched.pairs, "slices": matched.slices}.items():
        with atomic(folder / f"{stem}.csv") as unfinished:
            table.to_csv(unfinished, index=False, float_format="%.6f")
    with atomic(folder / "deviations.html") as unfinished:
        unfinished.write_text(deviations_page(name, matched, settings), encoding="utf-8")


def deviations_page(name: str, matched: Deviations, settings: Mapping[str, Any]) -> str:
    """Return the page as HTML, which opens from disk without a network.

    Args:
        name: name of the comparison.
        matched: boxes that are matched to objects.
        settings: settings by their names.
    """
    pairs, slices = matched.pairs, matched.slices
    return render(
        TEMPLATE,
        name=name,
        counts=counts(matched),
        slices=slices.to_dict("records"),
        figures=figures(pairs),
        advice=advice(matched),
        shifted=shifted(pairs),
        far=FAR,
        quartiles=pairs[[*EDGES, "scale", "shift_x", "shift_y"]].quantile([0.05, 0.25, 0.5, 0.75, 0.95]).T,
        charts=charts(pairs),
        settings=settings,
    )


def charts(pairs: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return the title, words and SVG of each chart."""
    levels = "Share of the matched boxes whose level is at most that on the axis"
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
