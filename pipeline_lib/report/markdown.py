"""The tables in Markdown, and what of them the page prints too."""

import html
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline_lib.evaluation.claims import signed, with_spread
from pipeline_lib.evaluation.published import ITERATIONS, MIOU, PAPER_MODELS, PAPER_ROWS, PK, Row
from pipeline_lib.evaluation.statistics import FEW_SLICES
from pipeline_lib.settings.experiment import TablesConfig

SMALLEST_P = 0.001  # that is printed
EMPTY = dict.fromkeys(("value", "sd", "interval", "paper"), "")  # of a row that has no such figure
AVERAGES = {  # by the config's `miou`
    "object": "mean over the {split} objects",
    "tile": "mean over the {split} tiles of their objects' mean",
    "foreground": "mean over the {split} tiles, all objects of one taken together,",
}
LEGEND = """\
# Tables

mIoU: {average} of the IoU of predicted and true mask, by the deviation of the boxes in per cent.
P: prompt tuning. K: iterated inference. Iterations: mean number of repeated predictions with K, at least 1 for each
object, of the proposed model unless another is named. Kept: mIoU at the highest deviation as a share of that at the
lowest.
Rows marked (ours) are not in the paper.

Figures are {seeds}. In square brackets: 95 % intervals by a bootstrap over slices,
all objects of a slice at a time, each with its mean over seeds; p by flipping the signs of whole slices, two-sided,
not corrected for their number. Differences are paired: the same objects, the same boxes; those between two models that
are ours stand in differences.csv alone. Intervals and p are about other slices of the same specimen; of fewer
than ten slices they are an indication."""


def document(experiment: TablesConfig, tables: pd.DataFrame, differences: pd.DataFrame, claims: pd.DataFrame) -> str:
    """The file tables.md, from what the stage tables wrote as CSV."""
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
    """Heading, sizes, table, differences and claims of one data set, from its lines of the CSV files."""
    heading, levels = experiment.datasets[dataset], list(map(str, experiment.levels))
    size = size_words(tables, experiment) + "."
    compared = ([pair, *texts] for pair, texts in paired(experiment, differences))
    return "\n\n".join(
        [
            f"## {plain(heading.title)}",
            f"{size} In brackets: the paper's figures." if heading.published else size,
            grid(
                [
                    ["", "P", "K", *levels, *(["kept"] if has_kept(experiment) else [])],
                    *map(markdown_row, table_rows(dataset, experiment, tables)),
                ]
            ),
            "Paired differences in mIoU, with interval and p:",
            grid([["", *levels], *compared]),
            grid([("Claim", "Verdict", "Because"), *claims[["claim", "verdict", "because"]].to_numpy().tolist()]),
        ]
    )


def size_words(tables: pd.DataFrame, experiment: TablesConfig) -> str:
    """How much of a data set was tested, and whether that is too little for an interval."""
    dataset, objects, tiles, slices = tables.iloc[0][["dataset", "objects", "tiles", "slices"]]
    few = ", so few that intervals are an indication" if slices < FEW_SLICES else ""
    most = (experiment.objects or 0) * len(experiment.datasets[dataset].parts)
    drawn = " evenly spaced" if objects == most else ""
    return f"{objects}{drawn} {experiment.split} objects in {tiles} tiles of {slices} slices{few}"


def table_rows(dataset: str, experiment: TablesConfig, tables: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows of a data set's table in their order, then iterations: title, prompt_tuned, iterated, figures.

    There is a figure for each level and, of several levels, one for the share kept, which is empty for iterations.
    Rows of the paper's models that it does not have stand behind the others.
    """
    published, models = experiment.datasets[dataset].published, experiment.models
    lines = {(Row(line["model"], line["iterated"]), line["level"]): line for line in tables.to_dict("records")}

    def figures(row: Row, name: str, form: Callable[[float], str], paper: Mapping[int, float]) -> list[dict[str, str]]:
        return [texts(lines[row, level], name, form, paper.get(level)) for level in experiment.levels]

    def kept(row: Row, paper: Mapping[int, float]) -> list[dict[str, str]]:
        lowest, highest = min(experiment.levels), max(experiment.levels)
        printed = paper[highest] / paper[lowest] if {lowest, highest} <= paper.keys() else None
        return [texts(lines[row, highest], "kept", percent, printed)] if has_kept(experiment) else []

    for row in sorted(dict.fromkeys(row for row, _ in lines), key=_added):
        paper = MIOU.get(published or "", {}).get(row, {})
        yield {
            "title": models[row.model].title + ("" if row in PAPER_ROWS else " (ours)"),
            "prompt_tuned": models[row.model].prompt_tuned,
            "iterated": row.iterated,
            "figures": [*figures(row, "miou", three_digits, paper), *kept(row, paper)],
        }
    counted = [model for model in models if not _added(Row(model, True))]
    for model in counted:
        name = f"iterations, {row_name(Row(model, False), experiment)}"
        paper = ITERATIONS.get(published or "", {}) if model == PK.model else {}
        yield {
            "title": "iterations" if counted == [PK.model] else name,
            "prompt_tuned": False,
            "iterated": False,
            "figures": figures(Row(model, True), "mean_iterations", two_digits, paper)
            + ([EMPTY] if has_kept(experiment) else []),
        }


def has_kept(experiment: TablesConfig) -> bool:
    """Whether there is more than one level."""
    return len(experiment.levels) > 1


def _added(row: Row) -> bool:
    """Whether the paper has the model, and this row of it not."""
    return row.model in PAPER_MODELS and row not in PAPER_ROWS


def markdown_row(row: dict[str, Any]) -> list[str]:
    """One seed as in the paper, several as mean ± standard deviation [interval]; the paper's figure in brackets."""
    cells = []
    for figure in row["figures"]:
        paper = f"({figure['paper']})" if figure["paper"] else ""
        words = [figure["value"], figure["sd"], figure["interval"] if figure["sd"] else "", paper]
        cells.append(" ".join(filter(None, words)))
    return [row["title"], "✓" if row["prompt_tuned"] else "", "✓" if row["iterated"] else "", *cells]


def row_name(row: Row, experiment: TablesConfig) -> str:
    """The model's title with what the columns P and K say, as in "proposed P + K, τ 0.1"."""
    model = experiment.models[row.model]
    method, comma, setting = model.title.partition(",")
    tuned = " P" if model.prompt_tuned else ""
    iterated = " + K" if row.iterated else ""
    return f"{method}{tuned}{iterated}{comma}{setting}"


def paired(experiment: TablesConfig, differences: pd.DataFrame) -> Iterator[tuple[str, list[str]]]:
    """What is compared, with its differences by level, from a data set's lines of differences.csv.

    Models that are not the paper's are compared with those that are: with each other they would fill pages.
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
    """A figure of tables.csv, ± its standard deviation, [its interval], and the paper's; empty where there is none."""
    sd = line[f"{name}_sd"]
    return {
        "value": "" if math.isnan(line[name]) else form(line[name]),
        "sd": "" if math.isnan(sd) else f"± {form(sd)}",
        "interval": interval(line, name, form),
        "paper": "" if paper is None else form(paper),
    }


def interval(line: Mapping[Any, Any], name: str, form: Callable[[float], str]) -> str:
    """`[low, high]`, or nothing where there is none."""
    low, high = line[f"{name}_low"], line[f"{name}_high"]
    return "" if math.isnan(low) else f"[{form(low)}, {form(high)}]"


def difference_text(line: Mapping[Any, Any]) -> str:
    """Such as +.0123 ± .0021 [+.0010, +.0236] p .031; without the spread, the interval and p where there are none."""
    words = with_spread(line["gain"], line["gain_sd"]), interval(line, "gain", signed), p_text(line["p"])
    return " ".join(filter(None, words))


def p_text(p: float) -> str:
    """Such as p .031, or nothing where there is none."""
    if math.isnan(p):
        return ""
    return "p < .001" if p < SMALLEST_P else f"p {three_digits(p)}"


def grid(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(map(plain, row)) + " |" for row in [head, ["---"] * len(head), *body])


def plain(text: str) -> str:
    """A title so that Markdown and HTML show it as it is."""
    return html.escape(text, quote=False).replace("|", "\\|")


def three_digits(figure: float) -> str:
    """As the paper prints it: .827."""
    return f"{figure:.3f}".removeprefix("0")


def two_digits(count: float) -> str:
    """As the paper prints them: 2.42."""
    return f"{count:.2f}"


def percent(share: float) -> str:
    """Such as 97.9 %."""
    return f"{100 * share:.1f} %"


def seeds_words(seeds: Sequence[int]) -> str:
    """What the tables say of their seeds."""
    if len(seeds) == 1:
        return f"of one seed ({seeds[0]})"
    return f"means ± standard deviations over {len(seeds)} seeds ({', '.join(map(str, sorted(seeds)))})"
