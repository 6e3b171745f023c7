"""What the page says of each data set.

The page opens from disk and asks no host for anything: style, charts and crops are in it, and there is no script.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline_lib.data.dataset import Store
from pipeline_lib.data.paths import JOINT, Cell, Training
from pipeline_lib.data.tables import read_table
from pipeline_lib.evaluation.published import ITERATIONS, MIOU, Row
from pipeline_lib.report.charts import CHARTS, Results, svg
from pipeline_lib.report.examples import BUDGET, browsed, example, telling
from pipeline_lib.report.markdown import paired, row_name, size_words, table_rows
from pipeline_lib.settings.experiment import TablesConfig

REPORT = "report.html.j2"
INCLUDED = ("macros.html.j2", "style.css")  # by templates; named, as a code digest counts the files that modules name


class Sized(Protocol):
    """A part of a page whose size is known."""

    @property
    def bytes(self) -> int:
        """About what it adds to the page."""
        ...


Shown = TypeVar("Shown", bound=Sized)


def render(template: str, **values: Any) -> str:
    """A page of a template of this folder, with style and crops in it."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template(template).render(**values)


def results_of(cell: Cell, experiment: TablesConfig, csvs: Mapping[str, pd.DataFrame]) -> Results:
    """What is known of one data set.

    Args:
        cell: of the data set, whose objects are shown.
        experiment: titles and order.
        csvs: of all data sets, by the names of the fields of `Results`, and the claims, which no chart shows.
    """
    published = experiment.datasets[cell.dataset].published
    return Results(
        cell,
        models={name: row_name(Row(name, False), experiment) for name in experiment.models},
        paper=MIOU.get(published or "", {}),
        paper_iterations=ITERATIONS.get(published or "", {}),
        # a training on several data sets together is part of each data set's results
        **{
            name: table[table["dataset"].isin([cell.dataset, JOINT])]
            for name, table in csvs.items()
            if name != "claims"
        },
    )


def tables_section(dataset: str, experiment: TablesConfig, csvs: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """What the template prints of one data set of the tables, by the names that it has there.

    Args:
        dataset: its name.
        experiment: titles and order.
        csvs: of all data sets: `tables`, `differences` and `claims`.
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
    """What the template prints besides of a data set whose objects are shown: of all folds together it shows none.

    Args:
        results: of the data set.
        scores: the stage score's table of the cell whose objects are shown.
        iterations: the stage refine's.
        store: of the data set.
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
            example(f"{cell.dataset}_{why.replace(' ', '_')}", why, row, history, tiles)
            for why, row in telling(table).items()
        ],
        "browsed": list(within_budget(grid)),
        "groups": results.groups[results.groups["model"] == cell.model].to_dict("records"),
        "worst": results.worst[results.worst["model"] == cell.model].to_dict("records"),
    }


def within_budget(examples: Iterable[Shown], budget: int = BUDGET) -> Iterator[Shown]:
    """The first ones, of `budget` bytes in all."""
    spent = 0
    for shown in examples:
        spent += shown.bytes
        if spent > budget:
            return
        yield shown


def loss_curves(paths: Iterable[str]) -> pd.DataFrame:
    """Read the curves of all trainings, with the columns dataset, model and seed; empty if nothing was trained."""
    curves = [read_table(path).assign(**Training.of(path)._asdict()) for path in paths]
    return pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=[*Training._fields, "epoch"])
