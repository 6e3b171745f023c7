"""Stage tables: the scores of all cells of the experiment to the paper's tables and a verdict on each of its claims."""

import json
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean as mean
from typing import Literal, NamedTuple, TypedDict, TypeVar

import pandas as pd

from pipeline_lib.atomic import atomic
from pipeline_lib.claims import CLAIMS, PAPER_ROWS, PK, UNSEEN, Bars, Figures, Row, Seconds, decide
from pipeline_lib.published import PUBLISHED

Key = TypeVar("Key", bound=Hashable)

LEGEND = """\
# Tables

mIoU: {average} of the IoU of predicted and true mask, by the deviation of the boxes in per cent.
P: prompt tuning. K: iterated inference. Iterations: mean number of repeated predictions of proposed P + K.
Rows marked (ours) are not in the paper.

Figures are means over {seeds}. Claims are decided on those of tables.csv, not on the rounded ones here; no difference
is tested statistically."""


AVERAGES: dict[str, tuple[str, Callable[[pd.DataFrame, str], float]]] = {
    "object": ("mean over the test objects", lambda scores, column: scores[column].mean()),
    "image": (
        "mean over the test images of their objects' mean",
        lambda scores, column: scores.groupby("image")[column].mean().mean(),
    ),
    "foreground": (
        "mean over the test images, all objects of one taken together,",
        lambda scores, column: scores.groupby("image")[f"foreground_{column}"].first().mean(),
    ),
}


class DatasetTitle(TypedDict):
    """`published` names the paper's table of the same data."""

    title: str
    published: Literal["em", "isbi2012", "epfl"] | None


class ModelTitle(TypedDict):
    """What the first columns of a row say."""

    title: str
    prompt_tuning: bool


class Experiment(TypedDict):
    """What the tables show, in their order; levels in per cent."""

    datasets: dict[str, DatasetTitle]
    models: dict[str, ModelTitle]
    levels: list[int]
    claims: dict[str, float]
    miou: Literal["object", "image", "foreground"]


class Cell(NamedTuple):
    """One combination of the experiment; its files lie at `{dataset}/{model}/{seed}/{level}.*` in a stage's folder."""

    dataset: str
    model: str
    seed: int
    level: int

    @classmethod
    def of(cls, path: str) -> "Cell":
        """The cell whose file lies at `path`."""
        dataset, model, seed, level = Path(path).with_suffix("").parts[-4:]
        return cls(dataset, model, int(seed), int(level))


@dataclass(frozen=True)
class Line:
    """A line of tables.csv."""

    dataset: str
    model: str
    iterated: bool
    level: int
    miou: float
    mean_iterations: float  # NaN where not iterated
    objects: int
    seeds: int


class Runs(NamedTuple):
    """Everything the stage reads: a row per object and cell, and seconds by cell and by data set."""

    scores: dict[Cell, pd.DataFrame]
    refine: dict[Cell, dict[str, float]]
    embed: dict[str, dict[str, float]]


def tables(
    *,
    scores: list[str],
    timings: list[str],
    embed_timings: list[str],
    markdown: str,
    csv: str,
    experiment: Experiment,
) -> None:
    """Write the tables for people (`markdown`) and as figures (`csv`).

    Args:
        scores: `…/{dataset}/{model}/{seed}/{level}.csv` of stage score, a row per test object.
        timings: `…/{dataset}/{model}/{seed}/{level}.json` of stage refine.
        embed_timings: `…/{dataset}.json` of stage embed.
        markdown: a table and its claims per data set.
        csv: dataset, model, iterated, level, miou, mean_iterations, objects, seeds; means over the seeds.
        experiment: titles, order and the claims' bars.
    """
    runs = Runs(
        {Cell.of(path): pd.read_csv(path) for path in scores},
        {Cell.of(path): _json(path) for path in timings},
        {Path(path).stem: _json(path) for path in embed_timings},
    )
    lines = list(summaries(runs, experiment["miou"]))
    with atomic(csv) as partial:
        write_csv(lines, partial)
    with atomic(markdown) as partial:
        sections = [
            LEGEND.format(average=AVERAGES[experiment["miou"]][0], seeds=_seeds(runs)),
            *(section(dataset, lines, runs, experiment) for dataset in experiment["datasets"]),
        ]
        partial.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def summaries(runs: Runs, miou: str) -> Iterator[Line]:
    """The first masks' line and the iterated ones' of every data set, model and level."""
    _, average = AVERAGES[miou]
    for dataset, model, level in sorted({(cell.dataset, cell.model, cell.level) for cell in runs.scores}):
        scores = [table for cell, table in runs.scores.items() if cell == (dataset, model, cell.seed, level)]
        iterations = mean(table["iterations"].mean() for table in scores)
        for iterated, column, count in ((False, "iou", math.nan), (True, "iou_iterated", iterations)):
            figure = mean(float(average(table, column)) for table in scores)
            yield Line(dataset, model, iterated, level, figure, count, len(scores[0]), len(scores))


def write_csv(lines: list[Line], path: Path) -> None:
    """The same lines give the same bytes."""
    table = pd.DataFrame(lines)
    table["iterated"] = table["iterated"].map({False: "false", True: "true"})
    table.to_csv(path, index=False, float_format="%.6f", lineterminator="\n")


def measured(dataset: str, lines: list[Line], runs: Runs) -> Figures:
    """The figures of one data set."""
    own = {(Row(line.model, line.iterated), line.level): line for line in lines if line.dataset == dataset}
    return Figures(
        miou={key: line.miou for key, line in own.items()},
        iterations={level: line.mean_iterations for (row, level), line in own.items() if row == PK},
        seconds=seconds_of(dataset, runs),
    )


def seconds_of(dataset: str, runs: Runs) -> Seconds | None:
    """Per image, of the proposed model at the highest of the claims' levels; None where that was not run."""
    cells = [cell for cell in runs.refine if cell == (dataset, PK.model, cell.seed, UNSEEN[-1])]
    if not cells:
        return None
    embed, refine = runs.embed[dataset], [runs.refine[cell] for cell in cells]
    images = sum(each["images"] for each in refine)
    return Seconds(
        encode=embed["seconds"] / embed["images"],
        first=sum(each["first_seconds"] for each in refine) / images,
        repeated=sum(each["repeated_seconds"] for each in refine) / images,
        passes=mean(float(runs.scores[cell].groupby("image")["iterations"].max().mean()) for cell in cells),
    )


def section(dataset: str, lines: list[Line], runs: Runs, experiment: Experiment) -> str:
    """Markdown: heading, sizes, table and claims of one data set."""
    heading = experiment["datasets"][dataset]
    figures, bars = measured(dataset, lines, runs), Bars(**experiment["claims"])
    paper = PUBLISHED[heading["published"]] if heading["published"] else Figures({}, {}, None)
    scores = next(table for cell, table in runs.scores.items() if cell.dataset == dataset)  # the same objects in all
    size = f"{len(scores)} test objects in {scores['image'].nunique()} images."
    claims = [("Claim", "Verdict", "Because"), *(decide(claim, figures, bars) for claim in CLAIMS)]
    return "\n\n".join(
        [
            f"## {heading['title']}",
            f"{size} In brackets: the paper's figures." if heading["published"] else size,
            grid(table_rows(figures, paper, experiment)),
            grid(claims),
        ]
    )


def table_rows(figures: Figures, paper: Figures, experiment: Experiment) -> Iterator[list[str]]:
    """The paper's rows, then those that come for free, then the iterations of proposed P + K."""
    models, levels = experiment["models"], experiment["levels"]
    yield ["", "P", "K", *map(str, levels)]
    rows = [Row(model, iterated) for iterated in (False, True) for model in models]
    for row in sorted(rows, key=lambda row: row not in PAPER_ROWS):
        title = models[row.model]["title"] + ("" if row in PAPER_ROWS else " (ours)")
        ticks = ["✓" if ticked else "" for ticked in (models[row.model]["prompt_tuning"], row.iterated)]
        keys = [(row, level) for level in levels]
        yield [title, *ticks, *beside(figures.miou, paper.miou, keys, _three_decimals)]
    if PK.model in models:
        yield ["iterations", "", "", *beside(figures.iterations, paper.iterations, levels, "{:.2f}".format)]


def beside(
    ours: Mapping[Key, float], theirs: Mapping[Key, float], keys: Iterable[Key], form: Callable[[float], str]
) -> Iterator[str]:
    """Our figures and, where the paper has them too, the paper's in brackets."""
    for key in keys:
        yield form(ours[key]) + (f" ({form(theirs[key])})" if key in theirs else "")


def grid(rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    head, *body = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *body])


def _seeds(runs: Runs) -> str:
    seeds = sorted({cell.seed for cell in runs.scores})
    return f"{len(seeds)} seeds ({', '.join(map(str, seeds))})" if len(seeds) > 1 else f"one seed ({seeds[0]})"


def _three_decimals(miou: float) -> str:
    return f"{miou:.3f}".removeprefix("0")  # .827, as in the paper


def _json(path: str) -> dict[str, float]:
    content: dict[str, float] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content
