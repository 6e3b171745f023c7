"""What was measured of a data set: every figure of the tables with its interval, as the stage's CSV files hold them."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

import pandas as pd

from pipeline_lib.data.paths import Cell
from pipeline_lib.errors import DataError
from pipeline_lib.evaluation.claims import CLAIMS, PAPER_MODELS, PK, UNSEEN, Figures, Row, Seconds, Thresholds, decide
from pipeline_lib.evaluation.scores import KEYS
from pipeline_lib.evaluation.statistics import ClusterSums, Estimate, clustered, contrast, p_value, tally


class DatasetTitle(TypedDict):
    """`published` names the paper's table of the same data."""

    title: str
    published: Literal["em", "isbi2012", "epfl"] | None


class ModelTitle(TypedDict):
    """What the first columns of a row say."""

    title: str
    prompt_tuned: bool


class Experiment(TypedDict):
    """What the tables show, in their order; levels in per cent."""

    datasets: dict[str, DatasetTitle]
    models: dict[str, ModelTitle]
    levels: list[int]
    seeds: list[int]
    claims: dict[str, float]
    miou: Literal["object", "tile", "foreground"]


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
    size: tuple[int, int, int, int]  # objects, tiles, slices, seeds


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
    iterations = {key: tally(scores, "iterations") for key, scores in tables.items()}
    of_pk = {level: iterations[model, level] for model, level in iterations if model == PK.model}
    figures = Figures(miou, of_pk, seconds_of(dataset, runs))
    bars, first = Thresholds(**experiment["claims"]), next(iter(tables.values()))
    return Measured(
        dataset,
        figures,
        [
            Line(
                dataset, row, level, clustered(each), clustered(iterations[row.model, level]) if row.iterated else None
            )
            for (row, level), each in miou.items()
        ],
        list(differences_of(dataset, miou)),
        [decide(claim, figures, bars) for claim in CLAIMS],
        (len(first[0]), first[0]["tile"].nunique(), first[0]["slice"].nunique(), len(first)),
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


def differences_of(dataset: str, miou: Mapping[tuple[Row, int], ClusterSums]) -> Iterator[Difference]:
    """Of every two rows that differ in one thing, the later less the earlier, at every level; ours follow others."""
    rows = sorted(dict.fromkeys(row for row, _ in miou), key=lambda row: (row.iterated, row.model not in PAPER_MODELS))
    for over, row in combinations(rows, 2):
        if (over.model == row.model) == (over.iterated == row.iterated):
            continue
        for level in (level for each, level in miou if each == row):
            gain = contrast(miou, {(row, level): 1, (over, level): -1})
            yield Difference(dataset, row, over, level, clustered(gain), p_value(gain))


def seconds_of(dataset: str, runs: Runs) -> list[Seconds]:
    """Of each seed, per tile, of the proposed model at the highest of the claims' levels, where that was run."""
    embed, found = runs.embed[dataset], []
    for cell in (cell for cell in runs.refine if cell == (dataset, PK.model, cell.seed, UNSEEN[-1])):
        spent, tiles = runs.refine[cell], runs.scores[cell].groupby("tile")
        found.append(
            Seconds(
                encode=embed["seconds_per_tile"],
                first=spent["first_seconds"] / spent["tiles"],
                repeated=spent["repeated_seconds"] / spent["tiles"],
                iterations=float(tiles["iterations"].max().mean()),
            )
        )
    return found


def _seeds_of(dataset: str, runs: Runs) -> list[int]:
    return sorted({cell.seed for cell in runs.scores if cell.dataset == dataset})


def csv_line(line: Line, measured: Measured) -> dict[str, object]:
    """A line of tables.csv."""
    objects, tiles, slices, seeds = measured.size
    return {
        "dataset": line.dataset,
        "model": line.row.model,
        "iterated": line.row.iterated,
        "level": line.level,
        **_columns("miou", line.miou),
        **_columns("mean_iterations", line.iterations or Estimate(*[math.nan] * 4)),
        "objects": objects,
        "tiles": tiles,
        "slices": slices,
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


def read_json(path: str) -> Any:
    """What a JSON file holds."""
    return json.loads(Path(path).read_text(encoding="utf-8"))
