"""Collect what the report shows of each data set."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from pipeline_lib.data.dataset import Store
from pipeline_lib.data.paths import JOINT, Cell, Training
from pipeline_lib.data.tables import read_table
from pipeline_lib.evaluation.published import ITERATIONS, MIOU, Row
from pipeline_lib.report.charts import CHARTS, Results, svg
from pipeline_lib.report.examples import browsed, example, telling
from pipeline_lib.report.markdown import paired, row_name, size_words, table_rows
from pipeline_lib.report.page import within_budget
from pipeline_lib.settings.experiment import TablesConfig


def results_of(cell: Cell, experiment: TablesConfig, csvs: Mapping[str, pd.DataFrame]) -> Results:
    """Return the results of a data set.

    Args:
        cell: cell of the data set whose objects are shown.
        experiment: titles and order.
        csvs: tables of all data sets, by the names of the fields of `Results`. The table `claims` is not used.
    """
    published = experiment.datasets[cell.dataset].published
    return Results(
        cell,
        models={name: row_name(Row(name, False), experiment) for name in experiment.models},
        paper=MIOU.get(published or "", {}),
        paper_iterations=ITERATIONS.get(published or "", {}),
        # A training on several data sets together belongs to the results of each data set.
        **{
            name: table[table["dataset"].isin([cell.dataset, JOINT])]
            for name, table in csvs.items()
            if name != "claims"
        },
    )


def tables_section(dataset: str, experiment: TablesConfig, csvs: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return the tables of a data set, by the names that the template uses.

    Args:
        dataset: name of the data set.
        experiment: titles and order.
        csvs: `tables`, `differences` and `claims` of all data sets.
    """
    tables, differences, claims = (
        csvs[name][csvs[name]["dataset"] == dataset] for name in ("tables", "differences", "claims")
    )
    seeds = len(experiment.seeds)
    return {
        "dataset": dataset,
        "title": experiment.datasets[dataset].title,
        "size": f"{size_words(tables, experiment)}; {seeds} seed{'s' if seeds > 1 else ''}",
        "rows": list(table_rows(dataset, experiment, tables)),
        "claims": claims.to_dict("records"),
        "differences": list(paired(experiment, differences)),
    }


def objects_section(results: Results, scores: str, iterations: str, store: str) -> dict[str, Any]:
    """Return the charts and objects of a data set, by the names that the template uses.

    Args:
        results: results of the data set.
        scores: table of the stage score for the cell whose objects are shown.
        iterations: table of the stage refine for the same cell.
        store: store of the data set.
    """
    cell = results.cell
    table, history, tiles = read_table(scores), read_table(iterations), Store.open(store)
    grid = (
        example(f"{cell.dataset}-grid-{index}", f"object {row['object']:g}", row, history, tiles)
        for index, row in enumerate(browsed(table))
    )
    return {
        "cell": cell,
        "charts": [(chart.title, *svg(chart, results)) for chart in CHARTS],
        "telling": [
            example(f"{cell.dataset}_{reason.replace(' ', '_')}", reason, row, history, tiles)
            for reason, row in telling(table).items()
        ],
        "browsed": list(within_budget(grid)),
        "groups": results.groups[results.groups["model"] == cell.model].to_dict("records"),
        "worst": results.worst[results.worst["model"] == cell.model].to_dict("records"),
    }


def loss_curves(paths: Iterable[str]) -> pd.DataFrame:
    """Read the curves of all trainings, with the columns dataset, model and seed. Empty if there is no training."""
    curves = [read_table(path).assign(**Training.of(path)._asdict()) for path in paths]
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=[*Training._fields, "epoch"])
