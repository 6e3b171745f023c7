"""Format the tables as Markdown, and format figures for the page."""

import html
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline_lib.evaluation.claims import signed, with_spread
from pipeline_lib.evaluation.published import ITERATIONS, MIOU, PAPER_MODELS, PAPER_ROWS, PK, Row
from pipeline_lib.evaluation.statistics import FEW_SLICES
from pipeline_lib.settings.experiment import TablesConfig

SMALLEST_P = 0.001  # smaller values are printed as "p < .001"
EMPTY = dict.fromkeys(("value", "sd", "interval", "paper"), "")  # texts of a figure that a row does not have
AVERAGES = {  # by `miou` of the configuration
    "object": "mean over the {split} objects",
    "tile": "mean over the {split} tiles of their objects' mean",
    "foreground": "mean over the {split} tiles, with all objects of a tile taken together,",
}
LEGEND = """\
# Tables

mIoU: {average} of the IoU of predicted and true mask, by the deviation of the boxes in per cent.
P: prompt tuning. K: iterated inference. Iterations: mean number of repeated predictions with K, at least 1 for each
object. They are of the proposed model unless another model is named. Kept: mIoU at the highest deviation as a share of
the mIoU at the lowest one. Rows marked (ours) are not in the paper.

Figures are {seeds}. Square brackets have 95 % intervals from a bootstrap over slices. It resamples whole slices with
all of their objects, each with its mean over seeds. p is two-sided, from flipping the signs of whole slices, and not
corrected for the number of tests. Differences are paired: they have the same objects and boxes. Differences between two
models that are ours are only in differences.csv. Intervals and p are about other slices of the same specimen. With
fewer than ten slices they are only an indication."""


def document(experiment: TablesConfig, tables: pd.DataFrame, differences: pd.DataFrame, claims: pd.DataFrame) -> str:
    """Return the text of tables.md, from the CSV files of the stage tables."""
    average = AVERAGES[experiment.miou].format(split=experiment.split)
    legend = LEGEND.format(average=average, seeds=seeds_words(experiment.seeds))
    sections = [
        section(dataset, experiment, *(table[table["dataset"] == dataset] for table in (tables, differences, claims)))
        for dataset in experiment.datasets
    ]
    return "\n\n".join([legend, *sections]) + "\n"


def section(
    dataset: str, experiment: TablesConfig, tables: pd.DataFrame, differences: pd.DataFrame, claims: pd.DataFrame
) -> str:
    """Return heading, sizes, table, differences and claims of a data set, from its lines of the CSV files."""
    heading, levels = experiment.datasets[dataset], list(map(str, experiment.levels))
    size = size_words(tables, experiment) + "."
    columns = ["", "P", "K", *levels, *(["kept"] if has_kept(experiment) else [])]
    rows = map(markdown_row, table_rows(dataset, experiment, tables))
    differences_rows = ([pair, *texts] for pair, texts in paired(experiment, differences))
    return "\n\n".join(
        [
            f"## {plain(heading.title)}",
            f"{size} In brackets: the paper's figures." if heading.published else size,
            grid([columns, *rows]),
            "Paired differences in mIoU, with interval and p:",
            grid([["", *levels], *differences_rows]),
            grid([("Claim", "Verdict", "Because"), *claims[["claim", "verdict", "because"]].to_numpy().tolist()]),
        ]
    )


def size_words(tables: pd.DataFrame, experiment: TablesConfig) -> str:
    """Return how much of a data set was tested, and whether this is too little for good intervals."""
    dataset, objects, tiles, slices = tables.iloc[0][["dataset", "objects", "tiles", "slices"]]
    few = ", so few that intervals are an indication" if slices < FEW_SLICES else ""
    most = (experiment.objects or 0) * len(experiment.datasets[dataset].parts)
    spacing = " evenly spaced" if objects == most else ""
    return f"{objects}{spacing} {experiment.split} objects in {tiles} tiles of {slices} slices{few}"


def table_rows(dataset: str, experiment: TablesConfig, tables: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Yield the rows of a data set's table: title, prompt_tuned, iterated, figures. Rows of iterations come last.

    `figures` has the texts of a figure for each level and, if there are several levels, one for the share that is kept.
    The latter is empty in rows of iterations. Rows of the paper's models that the paper does not have follow the other
    rows.
    """
    published, models = experiment.datasets[dataset].published, experiment.models
    lines = {(Row(line["model"], line["iterated"]), line["level"]): line for line in tables.to_dict("records")}

    def figures(row: Row, name: str, form: Callable[[float], str], paper: Mapping[int, float]) -> list[dict[str, str]]:
        return [texts(lines[row, level], name, form, paper.get(level)) for level in experiment.levels]

    def kept(row: Row, paper: Mapping[int, float]) -> list[dict[str, str]]:
        lowest, highest = min(experiment.levels), max(experiment.levels)
        printed = paper[highest] / paper[lowest] if {lowest, highest} <= paper.keys() else None
        return [texts(lines[row, highest], "kept", percent, printed)] if has_kept(experiment) else []

    for row in sorted(dict.fromkeys(row for row, _ in lines), key=_is_added):
        paper = MIOU.get(published or "", {}).get(row, {})
        yield {
            "title": models[row.model].title + ("" if row in PAPER_ROWS else " (ours)"),
            "prompt_tuned": models[row.model].prompt_tuned,
            "iterated": row.iterated,
            "figures": [*figures(row, "miou", three_digits, paper), *kept(row, paper)],
        }
    with_iterations = [model for model in models if not _is_added(Row(model, True))]
    for model in with_iterations:
        name = f"iterations, {row_name(Row(model, False), experiment)}"
        paper = ITERATIONS.get(published or "", {}) if model == PK.model else {}
        yield {
            "title": "iterations" if with_iterations == [PK.model] else name,
            "prompt_tuned": False,
            "iterated": False,
            "figures": figures(Row(model, True), "mean_iterations", two_digits, paper)
            + ([EMPTY] if has_kept(experiment) else []),
        }


def has_kept(experiment: TablesConfig) -> bool:
    """Return whether tables have the share that is kept at the highest level: with more than one level."""
    return len(experiment.levels) > 1


def _is_added(row: Row) -> bool:
    """Return whether the paper has the model of a row but not the row."""
    return row.model in PAPER_MODELS and row not in PAPER_ROWS


def markdown_row(row: dict[str, Any]) -> list[str]:
    """Return the cells of a row: with several seeds mean ± standard deviation [interval], then (the paper's figure)."""
    cells = []
    for figure in row["figures"]:
        paper = f"({figure['paper']})" if figure["paper"] else ""
        words = [figure["value"], figure["sd"], figure["interval"] if figure["sd"] else "", paper]
        cells.append(" ".join(filter(None, words)))
    return [row["title"], "✓" if row["prompt_tuned"] else "", "✓" if row["iterated"] else "", *cells]


def row_name(row: Row, experiment: TablesConfig) -> str:
    """Return the model's title with P and K, as in "proposed P + K, τ 0.1"."""
    model = experiment.models[row.model]
    method, comma, setting = model.title.partition(",")
    tuned = " P" if model.prompt_tuned else ""
    iterated = " + K" if row.iterated else ""
    return f"{method}{tuned}{iterated}{comma}{setting}"


def paired(experiment: TablesConfig, differences: pd.DataFrame) -> Iterator[tuple[str, list[str]]]:
    """Yield the name of each comparison and its differences by level, from a data set's lines of differences.csv.

    Models that are ours are compared only with those of the paper. With each other, they would fill pages.
    """
    by_pair: dict[tuple[Row, Row], dict[int, str]] = {}
    for line in differences.to_dict("records"):
        row, over = Row(line["model"], line["iterated"]), Row(line["over_model"], line["over_iterated"])
        if row.model == over.model or over.model in PAPER_MODELS:
            by_pair.setdefault((row, over), {})[line["level"]] = difference_text(line)
    for (row, over), by_level in by_pair.items():
        name = f"{row_name(row, experiment)} − {row_name(over, experiment)}"
        yield name, [by_level[level] for level in experiment.levels]


def texts(line: Mapping[Any, Any], name: str, form: Callable[[float], str], paper: float | None) -> dict[str, str]:
    """Return the texts of a figure of tables.csv: value, standard deviation, interval, and the paper's figure.

    Args:
        line: line of tables.csv.
        name: column of the figure.
        form: formats a number.
        paper: the paper's figure, if there is one.
    """
    sd = line[f"{name}_sd"]
    return {
        "value": "" if math.isnan(line[name]) else form(line[name]),
        "sd": "" if math.isnan(sd) else f"± {form(sd)}",
        "interval": interval(line, name, form),
        "paper": "" if paper is None else form(paper),
    }


def interval(line: Mapping[Any, Any], name: str, form: Callable[[float], str]) -> str:
    """Return `[low, high]`, or nothing if there is no interval."""
    low, high = line[f"{name}_low"], line[f"{name}_high"]
    return "" if math.isnan(low) else f"[{form(low)}, {form(high)}]"


def difference_text(line: Mapping[Any, Any]) -> str:
    """Return a difference such as +.0123 ± .0021 [+.0010, +.0236] p .031, without the parts that it does not have."""
    words = with_spread(line["gain"], line["gain_sd"]), interval(line, "gain", signed), p_text(line["p"])
    return " ".join(filter(None, words))


def p_text(p: float) -> str:
    """Return p such as "p .031", or nothing if there is none."""
    if math.isnan(p):
        return ""
    return "p < .001" if p < SMALLEST_P else f"p {three_digits(p)}"


def grid(rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table. The first row is its header."""
    head, *body = rows
    return "\n".join("| " + " | ".join(map(plain, row)) + " |" for row in [head, ["---"] * len(head), *body])


def plain(text: str) -> str:
    """Escape a text so that Markdown and HTML show it as it is."""
    return html.escape(text, quote=False).replace("|", "\\|")


def three_digits(figure: float) -> str:
    """Format a figure as the paper does: .827."""
    return f"{figure:.3f}".removeprefix("0")


def two_digits(count: float) -> str:
    """Format a mean count as the paper does: 2.42."""
    return f"{count:.2f}"


def percent(share: float) -> str:
    """Format a share as 97.9 %."""
    return f"{100 * share:.1f} %"


def seeds_words(seeds: Sequence[int]) -> str:
    """Return the words of the legend about seeds."""
    if len(seeds) == 1:
        return f"of one seed ({seeds[0]})"
    return f"means ± standard deviations over {len(seeds)} seeds ({', '.join(map(str, sorted(seeds)))})"
