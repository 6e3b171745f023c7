"""Draw the charts of the pages, as SVG that is legible on light and dark pages, and also outside a page.

Colours are close to those of Okabe and Ito (2008), which colour-blind people can distinguish. They are darker on light
pages and lighter on dark ones. Markers differ as well.
"""

import io
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline_lib.data.paths import Cell
from pipeline_lib.evaluation.breakdowns import UNCHANGED
from pipeline_lib.evaluation.published import Row

SIZE = (4.5, 3.3)  # inches of 72 points; text of 10 points is legible on a phone
PALETTE = {  # colours on light pages, and on dark ones
    "#0072b2": "#56b4e9",
    "#c44e00": "#ff9248",
    "#008060": "#2fc99a",
    "#a3478f": "#e79fd3",
    "#866a00": "#f0c53a",
    "#4448c4": "#aab2ff",
    "#5f666d": "#b9bec5",
}
COLOURS, MARKERS = tuple(PALETTE), "osD^vPX"
INK, RULE, PALE = "#1d2128", "#dfe2e7", "#868c96"
THEME = PALETTE | {INK: "#e8eaee", RULE: "#363c47", PALE: "#8d94a0"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "text.parse_math": False,  # titles can have dollar signs
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "grid.color": RULE,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.9,
    "lines.markersize": 4.5,
    "text.color": INK,
    "xtick.color": PALE,
    "xtick.labelcolor": INK,
    "ytick.left": False,
    "ytick.labelcolor": INK,
}
PAPER_STYLE: dict[str, Any] = {"linestyle": (0, (3, 2.5)), "linewidth": 1.4}
DEVIATION = "deviation of the boxes, %"
LEGENDS = {18: 3, 28: 2}  # columns of a legend by the longest label, letters; one column for longer labels
LEGEND_LINE = 0.19  # inches
FEW = 3  # largest number of lines whose bands can be distinguished
TITLE_WIDTH = 52  # letters
WITH_BANDS = ", with 95 % bands"
MANY = 10  # smallest number of objects for a point of quartiles


@dataclass(frozen=True)
class Results:
    """The results of a data set: its lines of the CSV files, and the paper's figures if there are any."""

    cell: Cell  # whose objects are shown; charts of a single model show the model of this cell
    models: dict[str, str]  # titles by name
    paper: Mapping[Row, Mapping[int, float]]  # mIoU by level
    paper_iterations: Mapping[int, float]  # by level
    tables: pd.DataFrame
    differences: pd.DataFrame
    groups: pd.DataFrame
    changes: pd.DataFrame
    worst: pd.DataFrame
    curves: pd.DataFrame  # loss curves with the columns model and seed

    @property
    def levels(self) -> list[int]:
        """Levels of deviation, per cent, ascending."""
        return sorted(set(self.tables["level"]))


Draw = Callable[[Results, Axes], None]
Curve = tuple[str, pd.DataFrame, Mapping[int, float]]  # label, lines of a CSV, and the paper's figures by level


class Chart(NamedTuple):
    """A chart of a data set's results."""

    name: str
    title: str
    says: str  # description for readers who cannot see the chart
    draw: Draw  # fills the axes of a figure
    bands: str = WITH_BANDS  # added to the description if the chart has bands


def svg(chart: Chart, results: Results, title: str = "") -> tuple[str, str]:
    """Return a chart in words and as an SVG document, whose colours follow the reader's theme.

    Equal figures give equal bytes.

    Args:
        chart: chart to draw.
        results: results of the data set to draw.
        title: title above the chart, needed outside a page.
    """
    return drawing(partial(chart.draw, results), chart.says, f"{results.cell.dataset} {chart.name}", title, chart.bands)


def drawing(
    draw: Callable[[Axes], None], says: str, salt: str, title: str = "", bands: str = WITH_BANDS
) -> tuple[str, str]:
    """Return a chart in words and as an SVG document, as `svg` does.

    Args:
        draw: fills the axes of a figure.
        says: describes the chart to those who cannot see it.
        salt: text that the ids of the document are made from.
        title: title above the chart, or none.
        bands: added to the words if the chart has bands.
    """
    with mpl.rc_context(STYLE | {"svg.hashsalt": salt}):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        handles, labels = axes.get_legend_handles_labels()
        if len(labels) > 1:
            columns = next((number for letters, number in LEGENDS.items() if max(map(len, labels)) <= letters), 1)
            further = math.ceil(len(labels) / columns) - 1
            figure.set_figheight(SIZE[1] + LEGEND_LINE * further)  # so that a long legend does not shrink the axes
            figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.4)
        if title:
            lines = textwrap.wrap(title, TITLE_WIDTH)
            figure.set_figheight(figure.get_figheight() + LEGEND_LINE * len(lines))
            figure.suptitle("\n".join(lines), x=0.02, ha="left", fontsize=11)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    words = says
    if axes.collections:
        words += bands
    if any(line.is_dashed() for line in axes.lines):
        words += "; the paper's dashed"
    return words, themed(file.getvalue(), words)


def themed(document: str, says: str) -> str:
    """Return an SVG document with colours as variables of a style sheet, the font of pages, and a description.

    With fixed colours, charts would be dark on dark pages (test_charts_are_drawn_in_colours_of_the_theme). Ids are
    removed, because several charts of a page could have the same.
    """
    variables = {colour: f"--c{index}" for index, colour in enumerate(THEME)}
    light = "".join(f"{name}:{colour};" for colour, name in variables.items())
    dark = "".join(f"{variables[colour]}:{other};" for colour, other in THEME.items())
    style = (
        f"<style>svg{{{light}font-family:system-ui,'Segoe UI',sans-serif}}"
        f"@media (prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    )
    drawing = document[document.index("<svg") :]
    drawing = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", drawing)
    drawing = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", drawing)
    drawing = re.sub(r"<metadata>.*?</metadata>\s*", "", drawing, flags=re.DOTALL)
    for colour, name in variables.items():
        drawing = drawing.replace(colour, f"var({name})")
    drawing = re.sub(r'(<svg [^>]*?)width="[^"]*"', rf'\1role="img" aria-label="{says}"', drawing, count=1)
    drawing = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", drawing, count=1)
    return re.sub(r"(<svg [^>]*>)", rf"\1{style}", drawing, count=1)


def _rows(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Return the lines that have these values, sorted by level."""
    matches = np.logical_and.reduce([table[column] == value for column, value in values.items()])
    return table[matches].sort_values("level", kind="stable")


def line_of(axes: Axes, index: int, label: str, table: pd.DataFrame, x: str, y: str, bare: bool = False) -> None:
    """Draw a line of column y, with a band from `{y}_low` to `{y}_high` if there are such columns.

    Args:
        axes: axes to draw on.
        index: number of the line, which decides its colour and marker.
        label: label of the line in the legend.
        table: figures.
        x: column of the horizontal axis.
        y: column of the vertical axis.
        bare: whether to leave out the band.
    """
    colour = COLOURS[index % len(COLOURS)]
    marker = MARKERS[index % len(MARKERS)]
    width = max(1.4, 3.4 - 0.8 * index)  # lines that lie on each other all remain visible
    axes.plot(table[x], table[y], color=colour, marker=marker, label=label, linewidth=width)
    if not bare and f"{y}_low" in table and table[f"{y}_low"].notna().any():
        axes.fill_between(table[x], table[f"{y}_low"], table[f"{y}_high"], color=colour, alpha=0.13, linewidth=0)


def by_level(axes: Axes, curves: Sequence[Curve], column: str, ylabel: str) -> None:
    """Draw a column of all curves by level, and the paper's figures dashed.

    Bands are left out if there are more than `FEW` curves, because they would hide each other.
    """
    for index, (label, lines, printed) in enumerate(curves):
        line_of(axes, index, label, lines, "level", column, bare=len(curves) > FEW)
        if printed:
            style = PAPER_STYLE | {"color": COLOURS[index % len(COLOURS)]}
            axes.plot(list(printed), list(printed.values()), label=f"{label}, paper", **style)
    levels = set().union(*(lines["level"] for _, lines, _ in curves))
    axes.set(xlabel=DEVIATION, ylabel=ylabel, xticks=sorted(levels))


def _mious(results: Results, axes: Axes, rows: Iterable[tuple[str, Row]]) -> None:
    """Draw the mIoU of rows. All such charts of a data set have the same limits, so that they can be compared."""
    curves = [(label, _rows(results.tables, **row._asdict()), results.paper.get(row, {})) for label, row in rows]
    by_level(axes, curves, "miou", "mIoU")
    printed = [figure for by_level in results.paper.values() for figure in by_level.values()]
    figures = np.concatenate([results.tables[["miou", "miou_low", "miou_high"]].to_numpy().ravel(), printed])
    axes.set(ylim=(np.nanmin(figures) - 0.01, np.nanmax(figures) + 0.01))


def _method(results: Results, axes: Axes) -> None:
    model = results.cell.model
    _mious(results, axes, [("first mask", Row(model, False)), ("iterated (K)", Row(model, True))])


def _models(results: Results, axes: Axes, iterated: bool) -> None:
    _mious(results, axes, [(title, Row(model, iterated)) for model, title in results.models.items()])


def _fits(results: Results, axes: Axes) -> None:
    fits = results.groups.loc[results.groups["by"] == "all", ["model", "level", "box_iou"]]
    cells = results.tables[~results.tables["iterated"]].merge(fits, on=["model", "level"]).sort_values("box_iou")
    for index, (model, title) in enumerate(results.models.items()):
        line_of(axes, index, title, cells[cells["model"] == model], "box_iou", "miou", bare=len(results.models) > FEW)
    axes.set(xlabel="mean IoU of prompted and exact boxes", ylabel="mIoU")


def _gains(results: Results, axes: Axes) -> None:
    models = results.models.items()
    curves: list[Curve] = [
        (title, _rows(results.differences, model=name, over_model=name), {}) for name, title in models
    ]
    by_level(axes, curves, "gain", "gain in mIoU")
    axes.axhline(0, color=INK, linewidth=1)


def _iterations(results: Results, axes: Axes) -> None:
    printed = {results.cell.model: results.paper_iterations}
    curves = [
        (title, _rows(results.tables, model=model, iterated=True), printed.get(model, {}))
        for model, title in results.models.items()
    ]
    by_level(axes, curves, "mean_iterations", "repeated predictions")


def _changes(results: Results, axes: Axes) -> None:
    levels = results.levels
    for index, level in enumerate(sorted({levels[0], levels[len(levels) // 2], levels[-1]})):
        rates = _rows(results.changes, model=results.cell.model, level=level).query("objects >= @MANY")
        line_of(axes, index, f"at {level} %", rates, "iteration", "change_rate")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="iteration", ylabel="change rate: median, quartiles", ylim=(0, None))


def _training(results: Results, axes: Axes, column: str, ylabel: str) -> None:
    for index, (model, title) in enumerate(results.models.items()):
        seeds = results.curves[results.curves["model"] == model].groupby("epoch")[column]
        if not len(seeds):  # a row that uses the weights of another model has no curve
            continue
        columns = {column: seeds.mean(), f"{column}_low": seeds.min(), f"{column}_high": seeds.max()}
        lines = pd.DataFrame(columns).dropna().reset_index()
        line_of(axes, index, title, lines, "epoch", column, bare=len(results.models) > FEW)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", ylabel=ylabel)
    if len(results.curves):
        axes.set(xlim=(-0.4, results.curves["epoch"].max() + 0.4))


def _sizes(results: Results, axes: Axes) -> None:
    top = results.levels[-1]
    groups = _rows(results.groups, model=results.cell.model, level=top, by="size")
    groups = groups.assign(place=range(len(groups)))
    line_of(axes, 0, "first mask", groups, "place", "miou")
    line_of(axes, 1, "iterated", groups, "place", "miou_iterated")
    axes.set(xlabel="area, pixels", ylabel=f"mIoU at {top} %", xticks=groups["place"], xticklabels=groups["group"])


def _gains_of_groups(results: Results, axes: Axes, by: str, label: str) -> None:
    groups = _rows(results.groups, model=results.cell.model, by=by).groupby("group")
    curves: list[Curve] = [(f"{label}{group}", lines, {}) for group, lines in groups if group != UNCHANGED]
    by_level(axes, curves, "gain", "gain in mIoU by K")
    axes.axhline(0, color=INK, linewidth=1)


def _harm(results: Results, axes: Axes) -> None:
    groups = _rows(results.groups, model=results.cell.model, by="all")
    line_of(axes, 0, "made worse by K", groups, "level", "worse")
    line_of(axes, 1, "at the limit of iterations", groups, "level", "capped")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel=DEVIATION, ylabel="share of objects", ylim=(0, None), xticks=groups["level"].tolist())


CHARTS = (
    Chart(
        "method",
        "The method, with and without K",
        "mIoU of the proposed model's first and iterated masks against the boxes' deviation",
        _method,
    ),
    Chart(
        "miou",
        "First masks, by model",
        "mIoU of each model's first masks against the boxes' deviation",
        partial(_models, iterated=False),
    ),
    Chart(
        "miou_iterated",
        "Iterated masks, by model",
        "mIoU of each model's iterated masks against the boxes' deviation",
        partial(_models, iterated=True),
    ),
    Chart(
        "box_iou",
        "First masks by how well their boxes fit",
        "mIoU of each model's first masks against the mean IoU of prompted and exact boxes, a point for each deviation",
        _fits,
    ),
    Chart(
        "gains",
        "Gain by iteration",
        "Paired difference in mIoU of iterated and first masks",
        _gains,
    ),
    Chart(
        "iterations",
        "Iterations",
        "Mean number of repeated predictions against the boxes' deviation",
        _iterations,
    ),
    Chart(
        "changes",
        "Change rate from iteration to iteration",
        f"Median and quartiles of the change rate at each iteration, if at least {MANY} objects have it",
        _changes,
        bands="",
    ),
    Chart(
        "harm",
        "Harm by iteration",
        "Share of objects whose IoU falls by iteration, and share of objects that reach the limit of iterations",
        _harm,
    ),
    Chart(
        "size",
        "By object size",
        "mIoU of first and iterated masks by quartile of the objects' area, at the highest deviation",
        _sizes,
    ),
    Chart(
        "direction",
        "By direction of the deviation",
        "Gain in mIoU by iteration for boxes that are too large and too small",
        partial(_gains_of_groups, by="direction", label="box "),
    ),
    Chart(
        "border",
        "By place in the tile",
        "Gain in mIoU by iteration for objects at the border of their tile and for those inside",
        partial(_gains_of_groups, by="border", label=""),
    ),
    Chart(
        "loss",
        "Training loss",
        "Training loss by epoch, mean over seeds",
        partial(_training, column="train_loss", ylabel="loss"),
        bands=", with their range",
    ),
    Chart(
        "validation",
        "Validation",
        "mIoU on the validation split by epoch, mean over seeds; the weights of the best epoch are kept",
        partial(_training, column="validation_miou", ylabel="validation mIoU"),
        bands=", with their range",
    ),
)
