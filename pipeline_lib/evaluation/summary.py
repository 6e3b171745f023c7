"""Every figure of the tables with its interval, paired differences and verdicts, as the CSV files of stage tables.

Scores of objects become sums by slice, once for all; every figure, difference and verdict is made from these.
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
    """The stage score's tables by cell.

    Raises:
        DataError: two cells of a data set, which are compared object by object, are not of the same objects.
    """
    scores = {Cell.of(path): read_table(path) for path in paths}
    first_cells: dict[str, Cell] = {}
    for cell, table in scores.items():
        first = first_cells.setdefault(cell.dataset, cell)
        if not table[KEYS].equals(scores[first][KEYS]):
            raise DataError(
                f"scores: expected the same objects in all cells of {cell.dataset}; "
                f"{'/'.join(map(str, first))} has {len(scores[first])}, "
                f"{'/'.join(map(str, cell))} {len(table)} or others"
            )
    return scores


def with_wholes(scores: Mapping[Cell, pd.DataFrame], experiment: TablesConfig) -> dict[Cell, pd.DataFrame]:
    """The scores, and as cells of a data set that was cut into folds those of its folds together.

    Its tiles and slices are numbered anew, as each fold has its own numbers.
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
    """The sums of every figure, of which `statistics` makes estimates.

    Args:
        scores: of all cells.
        miou: what weighs alike in an mIoU: an `object`, a `tile` by the mean of its objects, or a tile's `foreground`.

    Returns:
        `sum` and `n` by dataset, figure (`miou` without and with iteration; `iterations` with it), model, iterated,
        level, seed and slice, sorted.
    """
    prefix, alike = "foreground_" if miou == "foreground" else "", KEYS if miou == "object" else ["tile"]
    figures = [("miou", False, f"{prefix}iou", alike), ("miou", True, f"{prefix}iou_iterated", alike)]
    figures.append(("iterations", True, "iterations", KEYS))
    sums = {}
    for (dataset, model, seed, level), table in scores.items():  # one by one: its digits are not to depend on others
        for figure, iterated, column, units in figures:
            by_slice = table.groupby(["slice", *units])[column].mean().groupby("slice")
            sums[dataset, figure, model, iterated, level, seed] = sums_by_group(by_slice)
    names = ["dataset", "figure", "model", "iterated", "level", "seed"]
    return pd.concat(sums, names=names).sort_index()


def seconds_per_tile(
    scores: Mapping[Cell, pd.DataFrame], timings: Iterable[str], embed_timings: Iterable[str]
) -> pd.DataFrame:
    """Mean seconds of one tile of the proposed model at the highest of the claims' levels, where that was run.

    Args:
        scores: of all cells.
        timings: `…/{dataset}/{model}/{seed}/{level}.json` of stage refine.
        embed_timings: `…/{dataset}.json` of stage embed.

    Returns:
        A line for each dataset and seed: seconds to `encode` it, for the `first` masks and the `repeated` ones, and
        `iterations`, the repeated predictions of a tile's slowest object: so often would an uncached encoder run again.
    """
    encode = {Path(path).stem: read_json(path)["seconds_per_tile"] for path in embed_timings}
    lines = []
    for cell, path in ((Cell.of(path), path) for path in timings):
        if (cell.model, cell.level) == (PK.model, UNSEEN[-1]):
            spent = read_json(path)
            first, repeated = (spent[f"{name}_seconds"] / spent["tiles"] for name in ("first", "repeated"))
            slowest = scores[cell].groupby("tile")["iterations"].max().mean()
            lines.append((cell.dataset, cell.seed, encode[cell.dataset], first, repeated, slowest))
    return pd.DataFrame(lines, columns=["dataset", "seed", "encode", "first", "repeated", "iterations"])


def table_lines(
    scores: Mapping[Cell, pd.DataFrame], sums: pd.DataFrame, experiment: TablesConfig
) -> Iterator[dict[str, object]]:
    """The lines of tables.csv."""
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
    """The lines of differences.csv: what a row gains over another, same objects and boxes.

    Of every two rows that differ in one thing, the later less the earlier, at every level; ours follow the paper's.
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
    """The lines of claims.csv."""
    bars = experiment.claims.model_dump()
    for dataset, claim in product(experiment.datasets, CLAIMS):
        of_parts = seconds[seconds["dataset"].isin(experiment.datasets[dataset].parts)]
        by_seed = of_parts.groupby("seed").mean(numeric_only=True)
        verdict, because = decide(claim, sums_of(sums, dataset), by_seed, bars)
        yield {"dataset": dataset, "claim": claim.format_map(bars), "verdict": verdict, "because": because}


def columns(name: str, figure: Estimate) -> dict[str, float]:
    """A figure's columns of a CSV: the value, its interval, its standard deviation over seeds."""
    return {name: figure.value, f"{name}_low": figure.low, f"{name}_high": figure.high, f"{name}_sd": figure.sd}


def write_csv(lines: Iterable[Mapping[str, object]], path: Path, columns: list[str] | None = None) -> None:
    """The same lines give the same bytes; where there may be none, `columns` are what they would have."""
    table = pd.DataFrame(list(lines), columns=columns)
    for column in table.columns.intersection(["iterated", "over_iterated"]):
        table[column] = table[column].map({False: "false", True: "true"})
    table.to_csv(path, index=False, float_format="%.6f", lineterminator="\n")
