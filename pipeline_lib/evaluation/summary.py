"""Compute the CSV files of the stage tables: figures with their intervals, paired differences and verdicts.

The scores of objects are summed by slice once. All figures, differences and verdicts come from these sums.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations, product
from pathlib import Path

import pandas as pd

from pipeline_lib.data.paths import Cell
from pipeline_lib.data.tables import read_json, read_table
from pipeline_lib.errors import DataError
from pipeline_lib.evaluation.claims import CLAIMS, UNSEEN, decide
from pipeline_lib.evaluation.published import PAPER_MODELS, PK, Row
from pipeline_lib.evaluation.scores import KEYS
from pipeline_lib.evaluation.statistics import Estimate, estimate, p_value, share, sums_by_group, sums_of, weighted_sum
from pipeline_lib.settings.experiment import Average, TablesConfig

NO_ESTIMATE = Estimate(*[math.nan] * 4)


def read_scores(paths: Iterable[str]) -> dict[Cell, pd.DataFrame]:
    """Read the tables of the stage score, by cell.

    Raises:
        DataError: two cells of a data set have different objects, so they cannot be compared object by object.
    """
    scores = {Cell.of(path): read_table(path) for path in paths}
    first_cells: dict[str, Cell] = {}
    for cell, table in scores.items():
        first = first_cells.setdefault(cell.dataset, cell)
        if not table[KEYS].equals(scores[first][KEYS]):
            raise DataError(
                f"scores: expected the same objects in all cells of {cell.dataset}; "
                f"{'/'.join(map(str, first))} has {len(scores[first])}, {'/'.join(map(str, cell))} has {len(table)} "
                "or others; run the stage score again for both"
            )
    return scores


def with_wholes(scores: Mapping[Cell, pd.DataFrame], experiment: TablesConfig) -> dict[Cell, pd.DataFrame]:
    """Return the scores of all cells, and for each data set with folds those of its folds together.

    Tiles and slices of the whole data set get new numbers, because each fold counts its own from 0.
    """
    cells_with_wholes = dict(scores)
    wholes = {name: list(each.parts) for name, each in experiment.datasets.items() if each.parts != (name,)}
    cells = product(wholes, experiment.models, experiment.seeds, experiment.levels)
    for whole, model, seed, level in cells:
        tables = {part: scores[Cell(part, model, seed, level)] for part in wholes[whole]}
        table = pd.concat(tables, names=["part"]).reset_index("part")
        numbers = {column: table.groupby(["part", column]).ngroup() for column in ("tile", "slice")}
        cells_with_wholes[Cell(whole, model, seed, level)] = table.assign(**numbers).reset_index(drop=True)
    return cells_with_wholes


def sums_by_slice(scores: Mapping[Cell, pd.DataFrame], miou: Average) -> pd.DataFrame:
    """Return the sums of every figure, from which `statistics` computes estimates.

    Args:
        scores: scores of all cells.
        miou: what has equal weight in the mIoU: each `object`, each `tile` (mean of its objects), or the `foreground`
            of each tile (all of its objects together).

    Returns:
        `sum` and `n` by dataset, figure (`miou` without and with iteration; `iterations` with it), model, iterated,
        level, seed and slice, sorted.
    """
    prefix, unit = "foreground_" if miou == "foreground" else "", KEYS if miou == "object" else ["tile"]
    figures = [("miou", False, f"{prefix}iou", unit), ("miou", True, f"{prefix}iou_iterated", unit)]
    figures.append(("iterations", True, "iterations", KEYS))
    sums = {}
    for (dataset, model, seed, level), table in scores.items():  # cell by cell, so that no digit depends on others
        for figure, iterated, column, units in figures:
            by_slice = table.groupby(["slice", *units])[column].mean().groupby("slice")
            sums[dataset, figure, model, iterated, level, seed] = sums_by_group(by_slice)
    names = ["dataset", "figure", "model", "iterated", "level", "seed"]
    return pd.concat(sums, names=names).sort_index()


def seconds_per_tile(
    scores: Mapping[Cell, pd.DataFrame], timings: Iterable[str], embed_timings: Iterable[str]
) -> pd.DataFrame:
    """Return the mean seconds per tile of the proposed model at the highest level of the claims, if it was run.

    Args:
        scores: scores of all cells.
        timings: `…/{dataset}/{model}/{seed}/{level}.json` of the stage refine.
        embed_timings: `…/{dataset}.json` of the stage embed.

    Returns:
        A line for each dataset and seed: the seconds of the encoder (`encode`), of the `first` masks and of the
        `repeated` ones, and `iterations`, the number of repeated predictions of a tile's slowest object. Without cached
        embeddings, the encoder would run again so many times.
    """
    encode = {Path(path).stem: read_json(path)["seconds_per_tile"] for path in embed_timings}
    lines = []
    for cell, path in ((Cell.of(path), path) for path in timings):
        if (cell.model, cell.level) == (PK.model, UNSEEN[-1]):
            timing = read_json(path)
            first, repeated = (timing[f"{name}_seconds"] / timing["tiles"] for name in ("first", "repeated"))
            slowest = scores[cell].groupby("tile")["iterations"].max().mean()
            lines.append((cell.dataset, cell.seed, encode[cell.dataset], first, repeated, slowest))
    return pd.DataFrame(lines, columns=["dataset", "seed", "encode", "first", "repeated", "iterations"])


def table_lines(
    scores: Mapping[Cell, pd.DataFrame], sums: pd.DataFrame, experiment: TablesConfig
) -> Iterator[dict[str, object]]:
    """Yield the lines of tables.csv."""
    for dataset in experiment.datasets:
        tested = next(table for cell, table in scores.items() if cell.dataset == dataset)
        size = {"objects": len(tested), "tiles": tested["tile"].nunique(), "slices": tested["slice"].nunique()}
        size["seeds"] = len(experiment.seeds)
        lowest, highest = min(experiment.levels), max(experiment.levels)
        for model, level, iterated in product(experiment.models, experiment.levels, (False, True)):
            mious = sums_of(sums, dataset, "miou", model, iterated)
            miou, kept, count = estimate(sums_of(mious, level)), NO_ESTIMATE, NO_ESTIMATE
            if lowest < level == highest:
                kept = estimate(share(sums_of(mious, highest), sums_of(mious, lowest)))
            if iterated:
                count = estimate(sums_of(sums, dataset, "iterations", model, True, level))
            row = {"dataset": dataset, "model": model, "iterated": iterated, "level": level}
            yield row | columns("miou", miou) | columns("kept", kept) | columns("mean_iterations", count) | size


def difference_lines(sums: pd.DataFrame, experiment: TablesConfig) -> Iterator[dict[str, object]]:
    """Yield the lines of differences.csv: what a row gains over another one, with the same objects and boxes.

    Compares any two rows that differ either in the model or in being iterated, at every level. The paper's models come
    first, and the later row is compared with the earlier one.
    """
    models = sorted(experiment.models, key=lambda model: model not in PAPER_MODELS)
    rows = [Row(model, iterated) for iterated in (False, True) for model in models]
    pairs = [
        (over, row)
        for over, row in combinations(rows, 2)
        if (over.model == row.model) != (over.iterated == row.iterated)
    ]
    for dataset, (over, row), level in product(experiment.datasets, pairs, experiment.levels):
        gain = weighted_sum(sums_of(sums, dataset, "miou"), {(*row, level): 1, (*over, level): -1})
        yield {
            "dataset": dataset,
            "model": row.model,
            "iterated": row.iterated,
            "over_model": over.model,
            "over_iterated": over.iterated,
            "level": level,
            **columns("gain", estimate(gain)),
            "p": p_value(gain),
        }


def claim_lines(sums: pd.DataFrame, seconds: pd.DataFrame, experiment: TablesConfig) -> Iterator[dict[str, object]]:
    """Yield the lines of claims.csv."""
    bars = experiment.claims.model_dump()
    for dataset, claim in product(experiment.datasets, CLAIMS):
        of_parts = seconds[seconds["dataset"].isin(experiment.datasets[dataset].parts)]
        by_seed = of_parts.groupby("seed").mean(numeric_only=True)
        verdict, because = decide(claim, sums_of(sums, dataset), by_seed, bars)
        yield {"dataset": dataset, "claim": claim.format_map(bars), "verdict": verdict, "because": because}


def columns(name: str, figure: Estimate) -> dict[str, float]:
    """Return the columns of a figure in a CSV file: the value, its interval, its standard deviation over seeds."""
    return {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high, f"{name}_sd": figure.sd}


def write_csv(lines: Iterable[Mapping[str, object]], path: Path, columns: list[str] | None = None) -> None:
    """Write lines as CSV. Equal lines give equal bytes.

    Args:
        lines: columns by name.
        path: file to write.
        columns: names of the columns, needed if there can be no lines.
    """
    table = pd.DataFrame(list(lines), columns=columns)
    for column in table.columns.intersection(["iterated", "over_iterated"]):
        table[column] = table[column].map({False: "false", True: "true"})
    table.to_csv(path, index=False, float_format="%.6f", lineterminator="\n")
