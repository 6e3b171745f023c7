"""The tables in Markdown, and what of them the page prints too."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline_lib.evaluation.claims import PAPER_MODELS, PAPER_ROWS, PK, Figures, Row, signed, with_spread
from pipeline_lib.evaluation.published import PUBLISHED
from pipeline_lib.evaluation.statistics import FEW_SLICES, ClusterSums, Estimate
from pipeline_lib.evaluation.summary import Difference, Experiment, Line, Measured, Runs

SMALLEST_P = 0.001  # that is printed


LEGEND = """\
# Tables

mIoU: {average} of the IoU of predicted and true mask, by the deviation of the boxes in per cent.
P: prompt tuning. K: iterated inference. Iterations: mean number of repeated predictions with K, of the proposed model
unless another is named.
Rows marked (ours) are not in the paper.

Figures are {seeds}. In square brackets: 95 % intervals by a bootstrap over slices,
all objects of a slice at a time, each with its mean over seeds; p by flipping the signs of whole slices, two-sided,
not corrected for their number. Differences are paired: the same objects, the same boxes; those between two models that
are ours stand in differences.csv alone. Intervals and p are about other slices of the same specimen; of fewer
than ten slices they are an indication."""


def section(measured: Measured, experiment: Experiment) -> str:
    """Markdown: heading, sizes, table, differences and claims of one data set."""
    heading = experiment["datasets"][measured.dataset]
    size = size_words(*measured.size[:3]) + "."
    rows = table_rows(measured.lines, experiment)
    return "\n\n".join(
        [
            f"## {heading['title']}",
            f"{size} In brackets: the paper's figures." if heading["published"] else size,
            grid([["", "P", "K", *map(str, experiment["levels"])], *map(markdown_row, rows)]),
            "Paired differences in mIoU, with interval and p:",
            grid(
                [
                    ["", *map(str, experiment["levels"])],
                    *([pair, *map(shown_difference, each)] for pair, each in pairs(measured.differences, experiment)),
                ]
            ),
            grid([("Claim", "Verdict", "Because"), *measured.claims]),
        ]
    )


def size_words(objects: int, tiles: int, slices: int) -> str:
    """How much was tested, and whether that is too little for an interval."""
    few = ", so few that intervals are an indication" if slices < FEW_SLICES else ""
    return f"{objects} test objects in {tiles} tiles of {slices} slices{few}"


class Shown(NamedTuple):
    """A figure of the tables as text; empty where there is none."""

    value: str
    sd: str
    interval: str
    paper: str


class TableRow(NamedTuple):
    """A row of the tables, with a figure for each level."""

    title: str
    prompt_tuned: bool
    iterated: bool
    figures: list[Shown]


def table_rows(lines: list[Line], experiment: Experiment) -> Iterator[TableRow]:
    """The rows in their order, those of the paper's models that it does not have after them, then iterations."""
    models, levels = experiment["models"], experiment["levels"]
    published = experiment["datasets"][lines[0].dataset]["published"]
    paper = PUBLISHED[published] if published else Figures({}, {})
    own = {(line.row, line.level): line for line in lines}
    for row in sorted(dict.fromkeys(line.row for line in lines), key=_added):
        keys = [(row, level) for level in levels]
        figures = [shown(own[key].miou, paper.miou.get(key), miou) for key in keys]
        yield TableRow(row_title(row, experiment), models[row.model]["prompt_tuned"], row.iterated, figures)
    counted = [model for model in models if not _added(Row(model, True))]
    for model in counted:
        title = "iterations" if counted == [PK.model] else f"iterations, {row_name(Row(model, False), experiment)}"
        printed = paper.iterations if model == PK.model else {}
        counts = [(own[Row(model, True), level].iterations, printed.get(level)) for level in levels]
        yield TableRow(title, False, False, [shown(ours, theirs, iterations) for ours, theirs in counts if ours])


def _added(row: Row) -> bool:
    """Whether the paper has the model, and this row of it not."""
    return row.model in PAPER_MODELS and row not in PAPER_ROWS


def markdown_row(row: TableRow) -> list[str]:
    """One seed as in the paper, several as mean ± standard deviation [interval]; the paper's figure in brackets."""
    cells = []
    for figure in row.figures:
        parts = [
            figure.value,
            figure.sd,
            figure.interval if figure.sd else "",
            f"({figure.paper})" * bool(figure.paper),
        ]
        cells.append(" ".join(part for part in parts if part))
    return [row.title, "✓" if row.prompt_tuned else "", "✓" if row.iterated else "", *cells]


def row_title(row: Row, experiment: Experiment) -> str:
    """The model's title, marked where the paper has no such row."""
    return experiment["models"][row.model]["title"] + ("" if row in PAPER_ROWS else " (ours)")


def row_name(row: Row, experiment: Experiment) -> str:
    """The model's title with what the columns P and K say, as in "proposed P + K, τ 0.1"."""
    model = experiment["models"][row.model]
    method, comma, setting = model["title"].partition(",")
    return method + " P" * model["prompt_tuned"] + " + K" * row.iterated + comma + setting


def pairs(differences: list[Difference], experiment: Experiment) -> Iterator[tuple[str, list[Difference]]]:
    """What is compared, with its differences by level; of one data set.

    Models that are not the paper's are compared with those that are: with each other they would fill pages.
    """
    found = {(each.row, each.over, each.level): each for each in differences}
    for row, over in dict.fromkeys((each.row, each.over) for each in differences):
        if row.model != over.model and over.model not in PAPER_MODELS:
            continue
        name = f"{row_name(row, experiment)} − {row_name(over, experiment)}"
        yield name, [found[row, over, level] for level in experiment["levels"]]


def shown(estimate: Estimate, paper: ClusterSums | None, form: Callable[[float], str]) -> Shown:
    """A figure, ± its standard deviation, [its interval], and the paper's."""
    return Shown(
        form(estimate.value),
        "" if math.isnan(estimate.sd) else f"± {form(estimate.sd)}",
        interval(estimate, form),
        "" if paper is None else form(float(paper.by_seed[0])),
    )


def interval(estimate: Estimate, form: Callable[[float], str]) -> str:
    """`[low, high]`, or nothing where there is none."""
    return "" if math.isnan(estimate.low) else f"[{form(estimate.low)}, {form(estimate.high)}]"


def shown_difference(difference: Difference) -> str:
    """Such as +.0123 ± .0021 [+.0010, +.0236] p .031; without the spread, the interval and p where there are none."""
    gain = difference.gain
    return " ".join(part for part in (with_spread(gain), interval(gain, signed), shown_p(difference.p)) if part)


def shown_p(p: float) -> str:
    """Such as p .031, or nothing where there is none."""
    if math.isnan(p):
        return ""
    return "p < .001" if p < SMALLEST_P else f"p {miou(p)}"


def grid(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def miou(figure: float) -> str:
    """As the paper prints it: .827."""
    return f"{figure:.3f}".removeprefix("0")


def iterations(count: float) -> str:
    """As the paper prints them: 2.42."""
    return f"{count:.2f}"


def seeds_words(runs: Runs) -> str:
    """What the tables say of their seeds."""
    seeds = sorted({cell.seed for cell in runs.scores})
    if len(seeds) == 1:
        return f"of one seed ({seeds[0]})"
    return f"means ± standard deviations over {len(seeds)} seeds ({', '.join(map(str, seeds))})"
