"""Stage tables: the scores of all cells of the experiment to the paper's tables and a verdict on each of its claims."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

import pandas as pd

from pipeline_lib.atomic import atomic
from pipeline_lib.claims import CLAIMS, PAPER_ROWS, PK, UNSEEN, Bars, Figures, Row, Seconds, decide, signed
from pipeline_lib.errors import DataError
from pipeline_lib.published import PUBLISHED
from pipeline_lib.score import KEYS
from pipeline_lib.statistics import AVERAGES, Estimate, Tally, clustered, contrast, p_value, tally

SMALLEST_P = 0.001  # that is printed

LEGEND = """\
# Tables

mIoU: {average} of the IoU of predicted and true mask, by the deviation of the boxes in per cent.
P: prompt tuning. K: iterated inference. Iterations: mean number of repeated predictions of proposed P + K.
Rows marked (ours) are not in the paper.

Figures are {seeds}. In square brackets: 95 % intervals by a bootstrap over images,
all objects of an image at a time, each with its mean over seeds; p by flipping the signs of whole images, two-sided,
not corrected for their number. Differences are paired: the same objects, the same boxes. Intervals and p are about
other images of the same specimen; below about ten images they are an indication."""


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


class Line(NamedTuple):
    """A line of the tables."""

    dataset: str
    row: Row
    level: int
    miou: Estimate
    iterations: Estimate | None  # None where not iterated


class Difference(NamedTuple):
    """What `row` gains over another in mIoU, on the same objects with the same boxes."""

    dataset: str
    row: Row
    over: Row
    level: int
    gain: Estimate
    p: float


class Runs(NamedTuple):
    """Everything the stage reads: a row per object and cell, and seconds by cell and by data set."""

    scores: dict[Cell, pd.DataFrame]
    refine: dict[Cell, dict[str, float]]
    embed: dict[str, dict[str, float]]


class Measured(NamedTuple):
    """All that is known of one data set."""

    dataset: str
    figures: Figures
    lines: list[Line]
    differences: list[Difference]
    claims: list[tuple[str, str, str]]  # says, verdict, because
    size: tuple[int, int, int]  # objects, images, seeds


def tables(
    *,
    audit: str,
    scores: list[str],
    timings: list[str],
    embed_timings: list[str],
    markdown: str,
    csv: str,
    differences: str,
    claims: str,
    experiment: Experiment,
) -> None:
    """Write the tables for people (`markdown`) and as figures.

    Args:
        audit: not used here: no table is made before the stage audit has passed.
        scores: `…/{dataset}/{model}/{seed}/{level}.csv` of stage score, a row per test object.
        timings: `…/{dataset}/{model}/{seed}/{level}.json` of stage refine.
        embed_timings: `…/{dataset}.json` of stage embed.
        markdown: a table, its differences and its claims per data set.
        csv: dataset, model, iterated, level, miou, mean_iterations, objects, images, seeds; `miou` and
            `mean_iterations` with their interval (`_low`, `_high`) and standard deviation over seeds (`_sd`).
        differences: dataset, model, iterated, over_model, over_iterated, level, gain with interval and standard
            deviation, p; of every two rows that differ either in the model or in being iterated.
        claims: dataset, claim, verdict, because.
        experiment: titles, order and the claims' bars.

    Raises:
        DataError: cells of a data set are of different test objects.
    """
    runs = Runs(
        {Cell.of(path): pd.read_csv(path) for path in scores},
        {Cell.of(path): read_json(path) for path in timings},
        {Path(path).stem: read_json(path) for path in embed_timings},
    )
    measured = [measure(dataset, runs, experiment) for dataset in experiment["datasets"]]
    with atomic(csv) as partial:
        write_csv((csv_line(line, each) for each in measured for line in each.lines), partial)
    with atomic(differences) as partial:
        write_csv((csv_difference(line) for each in measured for line in each.differences), partial)
    with atomic(claims) as partial:
        write_csv((csv_claim(each.dataset, *claim) for each in measured for claim in each.claims), partial)
    with atomic(markdown) as partial:
        sections = [
            LEGEND.format(average=AVERAGES[experiment["miou"]].words, seeds=_seeds(runs)),
            *(section(each, experiment) for each in measured),
        ]
        partial.write_text("\n\n".join(sections) + "\n", encoding="utf-8")


def measure(dataset: str, runs: Runs, experiment: Experiment) -> Measured:
    """Every figure of one data set."""
    check_objects({cell: table for cell, table in runs.scores.items() if cell.dataset == dataset})
    tables = {
        (model, level): [runs.scores[Cell(dataset, model, seed, level)] for seed in _seeds_of(dataset, runs)]
        for model in experiment["models"]
        for level in experiment["levels"]
    }
    miou = {
        (Row(model, iterated), level): tally(scores, column, experiment["miou"])
        for (model, level), scores in tables.items()
        for iterated, column in ((False, "iou"), (True, "iou_iterated"))
    }
    passes = {key: tally(scores, "iterations") for key, scores in tables.items()}
    of_pk = {level: passes[model, level] for model, level in passes if model == PK.model}
    figures = Figures(miou, of_pk, seconds_of(dataset, runs))
    bars, first = Bars(**experiment["claims"]), next(iter(tables.values()))
    return Measured(
        dataset,
        figures,
        [
            Line(dataset, row, level, clustered(each), clustered(passes[row.model, level]) if row.iterated else None)
            for (row, level), each in miou.items()
        ],
        list(differences_of(dataset, miou)),
        [decide(claim, figures, bars) for claim in CLAIMS],
        (len(first[0]), first[0]["image"].nunique(), len(first)),
    )


def check_objects(scores: Mapping[Cell, pd.DataFrame]) -> None:
    """Rows, seeds and levels of a data set are compared object by object.

    Raises:
        DataError: two cells are not of the same test objects.
    """
    (first, table), *others = scores.items()
    for cell, other in others:
        if not table[KEYS].equals(other[KEYS]):
            raise DataError(
                f"scores: expected the same test objects in all cells of {first.dataset}; "
                f"{'/'.join(map(str, first))} has {len(table)}, {'/'.join(map(str, cell))} {len(other)} or others"
            )


def differences_of(dataset: str, miou: Mapping[tuple[Row, int], Tally]) -> Iterator[Difference]:
    """Of every two rows that differ in one thing, the later less the earlier, at every level."""
    rows = sorted(dict.fromkeys(row for row, _ in miou), key=lambda row: row.iterated)
    for over, row in combinations(rows, 2):
        if (over.model == row.model) == (over.iterated == row.iterated):
            continue
        for level in (level for each, level in miou if each == row):
            gain = contrast(miou, {(row, level): 1, (over, level): -1})
            yield Difference(dataset, row, over, level, clustered(gain), p_value(gain))


def csv_line(line: Line, measured: Measured) -> dict[str, object]:
    """A line of tables.csv."""
    objects, images, seeds = measured.size
    return {
        "dataset": line.dataset,
        "model": line.row.model,
        "iterated": line.row.iterated,
        "level": line.level,
        **_columns("miou", line.miou),
        **_columns("mean_iterations", line.iterations or Estimate(*[math.nan] * 4)),
        "objects": objects,
        "images": images,
        "seeds": seeds,
    }


def csv_difference(difference: Difference) -> dict[str, object]:
    """A line of differences.csv."""
    return {
        "dataset": difference.dataset,
        "model": difference.row.model,
        "iterated": difference.row.iterated,
        "over_model": difference.over.model,
        "over_iterated": difference.over.iterated,
        "level": difference.level,
        **_columns("gain", difference.gain),
        "p": difference.p,
    }


def csv_claim(dataset: str, claim: str, verdict: str, because: str) -> dict[str, object]:
    """A line of claims.csv."""
    return {"dataset": dataset, "claim": claim, "verdict": verdict, "because": because}


def _columns(name: str, estimate: Estimate) -> dict[str, float]:
    return {
        name: estimate.value,
        f"{name}_low": estimate.low,
        f"{name}_high": estimate.high,
        f"{name}_sd": estimate.sd,
    }


def read_lines(csv: str | Path) -> list[Line]:
    """What `csv_line` wrote."""
    return [
        Line(
            line["dataset"],
            Row(line["model"], line["iterated"]),
            line["level"],
            _estimate("miou", line),
            _estimate("mean_iterations", line) if line["iterated"] else None,
        )
        for line in pd.read_csv(csv).to_dict("records")
    ]


def read_differences(csv: str | Path) -> list[Difference]:
    """What `csv_difference` wrote."""
    return [
        Difference(
            line["dataset"],
            Row(line["model"], line["iterated"]),
            Row(line["over_model"], line["over_iterated"]),
            line["level"],
            _estimate("gain", line),
            line["p"],
        )
        for line in pd.read_csv(csv).to_dict("records")
    ]


def _estimate(name: str, line: Mapping[Any, Any]) -> Estimate:
    return Estimate(line[name], line[f"{name}_low"], line[f"{name}_high"], line[f"{name}_sd"])


def write_csv(lines: Iterable[Mapping[str, object]], path: Path) -> None:
    """The same lines give the same bytes."""
    table = pd.DataFrame(list(lines))
    for column in table.columns.intersection(["iterated", "over_iterated"]):
        table[column] = table[column].map({False: "false", True: "true"})
    table.to_csv(path, index=False, float_format="%.6f", lineterminator="\n")


def seconds_of(dataset: str, runs: Runs) -> list[Seconds]:
    """Of each seed, per image, of the proposed model at the highest of the claims' levels, where that was run."""
    embed, found = runs.embed[dataset], []
    for cell in (cell for cell in runs.refine if cell == (dataset, PK.model, cell.seed, UNSEEN[-1])):
        spent, images = runs.refine[cell], runs.scores[cell].groupby("image")
        found.append(
            Seconds(
                encode=embed["seconds_per_image"],
                first=spent["first_seconds"] / spent["images"],
                repeated=spent["repeated_seconds"] / spent["images"],
                passes=float(images["iterations"].max().mean()),
            )
        )
    return found


def section(measured: Measured, experiment: Experiment) -> str:
    """Markdown: heading, sizes, table, differences and claims of one data set."""
    heading = experiment["datasets"][measured.dataset]
    objects, images, _ = measured.size
    size = f"{objects} test objects in {images} images."
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


class Shown(NamedTuple):
    """A figure of the tables as text; empty where there is none."""

    value: str
    sd: str
    interval: str
    paper: str


class TableRow(NamedTuple):
    """A row of the tables, with a figure for each level."""

    title: str
    prompt_tuning: bool
    iterated: bool
    figures: list[Shown]


def table_rows(lines: list[Line], experiment: Experiment) -> Iterator[TableRow]:
    """The paper's rows, then those that come for free, then the iterations of proposed P + K; of one data set."""
    models, levels = experiment["models"], experiment["levels"]
    published = experiment["datasets"][lines[0].dataset]["published"]
    paper = PUBLISHED[published] if published else Figures({}, {})
    own = {(line.row, line.level): line for line in lines}
    for row in sorted(dict.fromkeys(line.row for line in lines), key=lambda row: row not in PAPER_ROWS):
        keys = [(row, level) for level in levels]
        figures = [shown(own[key].miou, paper.miou.get(key), miou) for key in keys]
        yield TableRow(row_title(row, experiment), models[row.model]["prompt_tuning"], row.iterated, figures)
    if PK.model in models:
        counts = [(own[PK, level].iterations, paper.iterations.get(level)) for level in levels]
        yield TableRow(
            "iterations", False, False, [shown(ours, theirs, iterations) for ours, theirs in counts if ours is not None]
        )


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
    return [row.title, "✓" if row.prompt_tuning else "", "✓" if row.iterated else "", *cells]


def row_title(row: Row, experiment: Experiment) -> str:
    """The model's title, marked where the paper has no such row."""
    return experiment["models"][row.model]["title"] + ("" if row in PAPER_ROWS else " (ours)")


def row_name(row: Row, experiment: Experiment) -> str:
    """The model's title with what the columns P and K of the tables say."""
    model = experiment["models"][row.model]
    return model["title"] + (" P" if model["prompt_tuning"] else "") + (" + K" if row.iterated else "")


def pairs(differences: list[Difference], experiment: Experiment) -> Iterator[tuple[str, list[Difference]]]:
    """What is compared, with its differences by level; of one data set."""
    found = {(each.row, each.over, each.level): each for each in differences}
    for row, over in dict.fromkeys((each.row, each.over) for each in differences):
        name = f"{row_name(row, experiment)} − {row_name(over, experiment)}"
        yield name, [found[row, over, level] for level in experiment["levels"]]


def shown(estimate: Estimate, paper: Tally | None, form: Callable[[float], str]) -> Shown:
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
    """Such as +.0123 [+.0010, +.0236] p .031; without interval and p where there are none."""
    gain = difference.gain
    return " ".join(part for part in (signed(gain.value), interval(gain, signed), shown_p(difference.p)) if part)


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


def _seeds_of(dataset: str, runs: Runs) -> list[int]:
    return sorted({cell.seed for cell in runs.scores if cell.dataset == dataset})


def _seeds(runs: Runs) -> str:
    seeds = sorted({cell.seed for cell in runs.scores})
    if len(seeds) == 1:
        return f"of one seed ({seeds[0]})"
    return f"means ± standard deviations over {len(seeds)} seeds ({', '.join(map(str, seeds))})"


def read_json(path: str) -> Any:
    """What a JSON file holds."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
