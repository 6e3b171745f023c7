"""Every figure of the tables with its interval, paired differences and verdicts, as the CSV files of stage tables."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, TypedDict

import pandas as pd

from pipeline_lib.data.paths import Cell
from pipeline_lib.errors import DataError
from pipeline_lib.evaluation.claims import CLAIMS, PAPER_MODELS, PK, UNSEEN, Figures, Row, Seconds, Thresholds, decide
from pipeline_lib.evaluation.scores import KEYS
from pipeline_lib.evaluation.statistics import ClusterSums, Estimate, clustered, contrast, p_value, tally

NO_ESTIMATE = Estimate(*[math.nan] * 4)


class Experiment(TypedDict):
    """What the tables show, in their order; levels in per cent."""

    datasets: dict[str, dict[str, Any]]  # title; published: the paper's table of the same data, or None
    models: dict[str, dict[str, Any]]  # title; prompt_tuned
    levels: list[int]
    seeds: list[int]
    claims: dict[str, float]
    miou: Literal["object", "tile", "foreground"]


def miou_by_slice(scores: Mapping[Cell, pd.DataFrame], experiment: Experiment) -> dict[tuple[Row, int], ClusterSums]:
    """MIoU of every row and level, from the scores of one data set's cells."""
    return {
        (Row(model, iterated), level): tally(tables, column, experiment["miou"])
        for (model, level), tables in _of_seeds(scores, experiment).items()
        for iterated, column in ((False, "iou"), (True, "iou_iterated"))
    }


def iterations_by_slice(
    scores: Mapping[Cell, pd.DataFrame], experiment: Experiment
) -> dict[tuple[str, int], ClusterSums]:
    """Iterations of every model and level, from the scores of one data set's cells."""
    return {key: tally(tables, "iterations") for key, tables in _of_seeds(scores, experiment).items()}


def _of_seeds(scores: Mapping[Cell, pd.DataFrame], experiment: Experiment) -> dict[tuple[str, int], list[pd.DataFrame]]:
    """The scores of each model and level, a table for each seed."""
    found: dict[tuple[str, int], list[pd.DataFrame]] = {
        (model, level): [] for model in experiment["models"] for level in experiment["levels"]
    }
    for cell in sorted(scores, key=lambda cell: cell.seed):
        found[cell.model, cell.level].append(scores[cell])
    return found


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


def seconds_of(
    scores: Mapping[Cell, pd.DataFrame], refine: Mapping[Cell, Mapping[str, float]], embed: Mapping[str, float]
) -> list[Seconds]:
    """Of each seed, per tile, of the proposed model at the highest of the claims' levels, where that was run."""
    found = []
    for cell in (cell for cell in scores if (cell.model, cell.level) == (PK.model, UNSEEN[-1])):
        spent, tiles = refine[cell], scores[cell].groupby("tile")
        found.append(
            Seconds(
                encode=embed["seconds_per_tile"],
                first=spent["first_seconds"] / spent["tiles"],
                repeated=spent["repeated_seconds"] / spent["tiles"],
                iterations=float(tiles["iterations"].max().mean()),
            )
        )
    return found


def table_lines(
    dataset: str, scores: Mapping[Cell, pd.DataFrame], experiment: Experiment
) -> Iterator[dict[str, object]]:
    """The lines of tables.csv about a data set, from the scores of its cells."""
    iterations = iterations_by_slice(scores, experiment)
    first = next(iter(scores.values()))
    size = {"objects": len(first), "tiles": first["tile"].nunique(), "slices": first["slice"].nunique()}
    size["seeds"] = len({cell.seed for cell in scores})
    for (row, level), sums in miou_by_slice(scores, experiment).items():
        count = clustered(iterations[row.model, level]) if row.iterated else NO_ESTIMATE
        of_row = {"dataset": dataset, "model": row.model, "iterated": row.iterated, "level": level}
        yield of_row | columns("miou", clustered(sums)) | columns("mean_iterations", count) | size


def difference_lines(dataset: str, miou: Mapping[tuple[Row, int], ClusterSums]) -> Iterator[dict[str, object]]:
    """The lines of differences.csv about a data set: what a row gains over another, same objects and boxes.

    Of every two rows that differ in one thing, the later less the earlier, at every level; ours follow the paper's.
    """
    rows = sorted(dict.fromkeys(row for row, _ in miou), key=lambda row: (row.iterated, row.model not in PAPER_MODELS))
    for over, row in combinations(rows, 2):
        if (over.model == row.model) == (over.iterated == row.iterated):
            continue
        for level in (level for each, level in miou if each == row):
            gain = contrast(miou, {(row, level): 1, (over, level): -1})
            yield {
                "dataset": dataset,
                "model": row.model,
                "iterated": row.iterated,
                "over_model": over.model,
                "over_iterated": over.iterated,
                "level": level,
                **columns("gain", clustered(gain)),
                "p": p_value(gain),
            }


def claim_lines(dataset: str, figures: Figures, thresholds: Thresholds) -> Iterator[dict[str, object]]:
    """The lines of claims.csv about a data set."""
    for claim in CLAIMS:
        says, verdict, because = decide(claim, figures, thresholds)
        yield {"dataset": dataset, "claim": says, "verdict": verdict, "because": because}


def columns(name: str, estimate: Estimate) -> dict[str, object]:
    """A figure's columns of a CSV: the value, its interval, its standard deviation over seeds."""
    return {
        name: estimate.value,
        f"{name}_low": estimate.low,
        f"{name}_high": estimate.high,
        f"{name}_sd": estimate.sd,
    }


def estimate_of(line: Mapping[Any, Any], name: str) -> Estimate:
    """The figure that `columns` wrote into a line."""
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
