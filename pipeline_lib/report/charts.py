"""The report's charts: SVG that is legible on light and on dark pages, alone as well as within one.

Colours are close to those of Okabe and Ito (2008), which colour-blind people can tell apart, darker on light pages and
lighter on dark ones; markers differ as well.
"""

import io
import math
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipeline_lib.evaluation.breakdowns import UNCHANGED
from pipeline_lib.evaluation.claims import Figures, Row

SIZE = (4.5, 3.3)  # inches of 72 points: text of 10 points stays legible on a telephone
PALETTE = {  # on light pages, on dark ones
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
DEVIATION = "deviation of the boxes, %"
LEGENDS = {18: 3, 28: 2}  # labels up to so many letters long stand so many side by side; longer ones alone
LEGEND_LINE = 0.19  # inches
FEW = 3  # lines whose bands can be told apart
TITLE_WIDTH = 52  # letters
MANY = 10  # objects whose quartiles are worth a point


@dataclass(frozen=True)
class ChartData:
    """What is known of one data set: the tables that other stages wrote, its own lines only."""

    titles: dict[str, str]  # of models
    lead: str  # the model that charts of a single one show
    paper: Figures  # empty where nothing is published
    tables: pd.DataFrame
    differences: pd.DataFrame
    groups: pd.DataFrame
    changes: pd.DataFrame
    curves: pd.DataFrame  # loss curves with the columns model and seed

    @property
    def crowded(self) -> bool:
        """Whether the bands of all models would hide each other."""
        return len(self.titles) > FEW

    @property
    def top(self) -> int:
        """The highest level of deviation."""
        return int(self.tables["level"].max())

    def miou_limits(self) -> tuple[float, float]:
        """What the two charts of mIoU have in common, so that they can be compared."""
        printed = [float(tally.by_seed[0]) for tally in self.paper.miou.values()]
        known = np.concatenate([self.tables[["miou", "miou_low", "miou_high"]].to_numpy().ravel(), printed])
        return float(np.nanmin(known)) - 0.01, float(np.nanmax(known)) + 0.01


class Chart(NamedTuple):
    """`says` describes it to those who cannot see it; `draw` fills the axes of a figure."""

    name: str
    title: str
    says: str
    draw: Callable[[ChartData, Axes], None]
    bands: str = "with 95 % bands"  # what else is to be seen
    of_all: bool = False  # a line for each model, without bands where these are many
    has_paper: bool = False  # the paper's curves too, where there are any

    def words(self, view: ChartData) -> str:
        """What is to be seen."""
        bands = f", {self.bands}" if self.bands and not (self.of_all and view.crowded) else ""
        return self.says + bands + ("; the paper's dashed" if self.has_paper and view.paper.miou else "")


def svg(chart: Chart, view: ChartData, salt: str, title: str = "") -> str:
    """The chart as an SVG document whose colours follow the reader's; the same figures give the same bytes.

    Args:
        chart: what to draw.
        view: of which data set.
        salt: a word of the data set's own.
        title: to stand above the chart where no page says it.
    """
    with mpl.rc_context(STYLE | {"svg.hashsalt": f"{salt} {chart.name}"}):
        figure = Figure(figsize=SIZE, layout="constrained")
        axes = figure.add_subplot()
        chart.draw(view, axes)
        handles, labels = axes.get_legend_handles_labels()
        if len(labels) > 1:
            columns = next((number for letters, number in LEGENDS.items() if max(map(len, labels)) <= letters), 1)
            further = math.ceil(len(labels) / columns) - 1
            figure.set_figheight(SIZE[1] + LEGEND_LINE * further)  # a long legend takes nothing from the axes
            figure.legend(handles, labels, loc="outside lower center", ncols=columns, handlelength=2.4)
        if title:
            lines = textwrap.wrap(title, TITLE_WIDTH)
            figure.set_figheight(figure.get_figheight() + LEGEND_LINE * len(lines))
            figure.suptitle("\n".join(lines), x=0.02, ha="left", fontsize=11)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return themed(file.getvalue(), chart.words(view))


def themed(document: str, says: str) -> str:
    """Colours as variables of a style sheet, the page's font, no ids that a page could hold twice."""
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
    """The lines that have these values, by level."""
    chosen = np.logical_and.reduce([table[column] == value for column, value in values.items()])
    return table[chosen].sort_values("level", kind="stable")


def _line(axes: Axes, index: int, label: str, x: Sequence[float], bands: pd.DataFrame, *, bare: bool = False) -> None:
    """A line of the first column with a band of the next two, unless these are to be left out."""
    colour = COLOURS[index % len(COLOURS)]
    y, low, high = bands.to_numpy(np.float64).T
    marker = MARKERS[index % len(MARKERS)]
    width = max(1.4, 3.4 - 0.8 * index)  # lines that lie on each other all remain visible
    axes.plot(x, y, color=colour, marker=marker, label=label, linewidth=width)
    if not (bare or np.isnan(low).all()):
        axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)


def _paper(axes: Axes, index: int, label: str, points: dict[int, float]) -> None:
    """The paper's curve: dashed, without markers."""
    if points:
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(
            list(points), list(points.values()), color=colour, linestyle=(0, (3, 2.5)), linewidth=1.4, label=label
        )


def _miou(iterated: bool) -> Callable[[ChartData, Axes], None]:
    def draw(view: ChartData, axes: Axes) -> None:
        for index, (model, title) in enumerate(view.titles.items()):
            row = _rows(view.tables, model=model, iterated=iterated)
            bands = row[["miou", "miou_low", "miou_high"]]
            _line(axes, index, title, row["level"].tolist(), bands, bare=view.crowded)
            _paper(axes, index, f"{title}, paper", _printed(view, Row(model, iterated)))
        axes.set(xlabel=DEVIATION, ylabel="mIoU", ylim=view.miou_limits(), xticks=sorted(set(view.tables["level"])))

    return draw


def _method(view: ChartData, axes: Axes) -> None:
    ends = {False: "first mask", True: "iterated (K)"}
    for index, (iterated, label) in enumerate(ends.items()):
        row = _rows(view.tables, model=view.lead, iterated=iterated)
        _line(axes, index, label, row["level"].tolist(), row[["miou", "miou_low", "miou_high"]])
        _paper(axes, index, f"{label}, paper", _printed(view, Row(view.lead, iterated)))
    axes.set(xlabel=DEVIATION, ylabel="mIoU", ylim=view.miou_limits(), xticks=sorted(set(view.tables["level"])))


def _printed(view: ChartData, wanted: Row) -> dict[int, float]:
    """The paper's mIoU of a row by level."""
    return {level: float(tally.by_seed[0]) for (row, level), tally in view.paper.miou.items() if row == wanted}


def _gains(view: ChartData, axes: Axes) -> None:
    for index, (model, title) in enumerate(view.titles.items()):
        gains = _rows(view.differences, model=model, over_model=model)
        bands = gains[["gain", "gain_low", "gain_high"]]
        _line(axes, index, title, gains["level"].tolist(), bands, bare=view.crowded)
    axes.axhline(0, color=INK, linewidth=1)
    axes.set(xlabel=DEVIATION, ylabel="gain in mIoU", xticks=sorted(set(view.tables["level"])))


def _iterations(view: ChartData, axes: Axes) -> None:
    for index, (model, title) in enumerate(view.titles.items()):
        row = _rows(view.tables, model=model, iterated=True)
        bands = row[["mean_iterations", "mean_iterations_low", "mean_iterations_high"]]
        _line(axes, index, title, row["level"].tolist(), bands, bare=view.crowded)
        if model == view.lead:
            printed = {level: float(tally.by_seed[0]) for level, tally in view.paper.iterations.items()}
            _paper(axes, index, f"{title}, paper", printed)
    axes.set(xlabel=DEVIATION, ylabel="repeated predictions", xticks=sorted(set(view.tables["level"])))


def _changes(view: ChartData, axes: Axes) -> None:
    levels = sorted(set(view.tables["level"]))
    for index, level in enumerate(sorted({levels[0], levels[len(levels) // 2], levels[-1]})):
        rates = _rows(view.changes, model=view.lead, level=level).query("objects >= @MANY")
        bands = rates[["change_rate", "change_rate_low", "change_rate_high"]]
        _line(axes, index, f"at {level} %", rates["iteration"].tolist(), bands)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="iteration", ylabel="change rate: median, quartiles", ylim=(0, None))


def _curve(column: str, words: str) -> Callable[[ChartData, Axes], None]:
    def draw(view: ChartData, axes: Axes) -> None:
        for index, (model, title) in enumerate(view.titles.items()):
            runs = view.curves[view.curves["model"] == model].groupby("epoch")[column]
            if not len(runs):  # with the weights of another model
                continue
            bands = pd.DataFrame({"mean": runs.mean(), "low": runs.min(), "high": runs.max()}).dropna()
            _line(axes, index, title, bands.index.tolist(), bands, bare=view.crowded)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="epoch", ylabel=words, xlim=(-0.4, view.curves["epoch"].max() + 0.4))

    return draw


def _sizes(view: ChartData, axes: Axes) -> None:
    groups = _rows(view.groups, model=view.lead, level=view.top, by="size")
    empty = pd.DataFrame({"low": np.nan, "high": np.nan}, index=groups.index)
    places = list(range(len(groups)))
    _line(axes, 0, "first mask", places, pd.concat([groups["miou"], empty], axis=1))
    _line(axes, 1, "iterated", places, pd.concat([groups["miou_iterated"], empty], axis=1))
    axes.set(xlabel="area, pixels", ylabel=f"mIoU at {view.top} %", xticks=places, xticklabels=groups["group"])


def _gains_of_groups(by: str, label: str) -> Callable[[ChartData, Axes], None]:
    def draw(view: ChartData, axes: Axes) -> None:
        groups = _rows(view.groups, model=view.lead, by=by)
        groups = groups[groups["group"] != UNCHANGED]
        for index, group in enumerate(sorted(set(groups["group"]))):
            own = groups[groups["group"] == group]
            _line(axes, index, label + group, own["level"].tolist(), own[["gain", "gain_low", "gain_high"]])
        axes.axhline(0, color=INK, linewidth=1)
        axes.set(xlabel=DEVIATION, ylabel="gain in mIoU by K", xticks=sorted(set(groups["level"])))

    return draw


def _harm(view: ChartData, axes: Axes) -> None:
    groups = _rows(view.groups, model=view.lead, by="all")
    for index, (column, label) in enumerate(
        {"worse": "made worse by K", "capped": "hit the cap on iterations"}.items()
    ):
        band = pd.DataFrame({"y": groups[column], "low": np.nan, "high": np.nan})
        _line(axes, index, label, groups["level"].tolist(), band)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set(xlabel=DEVIATION, ylabel="share of objects", ylim=(0, None), xticks=groups["level"].tolist())


CHARTS = (
    Chart(
        "method",
        "The method, with and without K",
        "mIoU of the proposed model's first and iterated masks against the boxes' deviation",
        _method,
        has_paper=True,
    ),
    Chart(
        "miou",
        "First masks of all models",
        "mIoU of each model's first masks against the boxes' deviation",
        _miou(iterated=False),
        of_all=True,
        has_paper=True,
    ),
    Chart(
        "miou_iterated",
        "Iterated masks of all models",
        "mIoU of each model's iterated masks against the boxes' deviation",
        _miou(iterated=True),
        of_all=True,
        has_paper=True,
    ),
    Chart(
        "gains",
        "What iteration gains",
        "Paired difference in mIoU of iterated and first masks",
        _gains,
        of_all=True,
    ),
    Chart(
        "iterations",
        "Iterations",
        "Mean number of repeated predictions against the boxes' deviation",
        _iterations,
        of_all=True,
        has_paper=True,
    ),
    Chart(
        "changes",
        "Change rate from iteration to iteration",
        f"Median and quartiles of the change rate at each iteration that at least {MANY} objects took",
        _changes,
        bands="",
    ),
    Chart(
        "harm",
        "What iteration harms",
        "Share of objects whose IoU falls by iteration, and share that reach the cap on iterations unsettled",
        _harm,
        bands="",
    ),
    Chart(
        "size",
        "By object size",
        "mIoU of first and iterated masks by quartile of the objects' area, at the highest deviation",
        _sizes,
        bands="",
    ),
    Chart(
        "direction",
        "By direction of the deviation",
        "What iteration gains for boxes that are too large and too small",
        _gains_of_groups("direction", "box "),
    ),
    Chart(
        "border",
        "By place in the tile",
        "What iteration gains for objects that their tile's border cuts and for those inside",
        _gains_of_groups("border", ""),
    ),
    Chart(
        "loss",
        "Training loss",
        "Training loss by epoch, mean over seeds",
        _curve("train_loss", "loss"),
        bands="with their range",
        of_all=True,
    ),
    Chart(
        "validation",
        "Validation",
        "mIoU on the validation split by epoch, of which the best one's weights are kept, mean over seeds",
        _curve("validation_miou", "validation mIoU"),
        bands="with their range",
        of_all=True,
    ),
)
