"""What the page says of each data set.

The page opens from disk and asks no host for anything: style, charts and crops are in it, and there is no script.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from pipeline_lib.data.dataset import Store
from pipeline_lib.data.paths import Cell, Training
from pipeline_lib.evaluation.claims import Figures, Row
from pipeline_lib.evaluation.published import PUBLISHED
from pipeline_lib.evaluation.summary import Experiment
from pipeline_lib.report.charts import CHARTS, Chart, ChartData, svg
from pipeline_lib.report.examples import BUDGET, Example, browsed, example, telling
from pipeline_lib.report.markdown import paired, row_name, size_words, table_rows

TEMPLATE = Path(__file__).with_name("report.html.j2")


class Drawn(NamedTuple):
    """A chart as an element of the page, and as a file that stands alone."""

    chart: Chart
    says: str
    svg: Markup
    file: str


@dataclass(frozen=True)
class DataSet:
    """What the page says of one data set, from what other stages wrote about all of them."""

    cell: Cell  # whose objects are shown
    experiment: Experiment
    csvs: dict[str, str]  # of the stages tables and analysis
    all_curves: pd.DataFrame
    iterations: str
    scores: str
    store: str

    @property
    def title(self) -> str:
        """Of the config."""
        return str(self.experiment["datasets"][self.cell.dataset]["title"])

    @property
    def published(self) -> bool:
        """Whether the paper has this table."""
        return self.experiment["datasets"][self.cell.dataset]["published"] is not None

    @property
    def size(self) -> str:
        """Objects, tiles and seeds."""
        seeds = len(self.experiment["seeds"])
        return f"{size_words(self.own('tables'))}; {seeds} seed{'s' if seeds > 1 else ''}"

    def own(self, csv: str) -> pd.DataFrame:
        """The lines of a CSV that are about this data set."""
        table = pd.read_csv(self.csvs[csv])
        return table[table["dataset"] == self.cell.dataset]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Of the table."""
        return table_rows(self.cell.dataset, self.own("tables"), self.experiment)

    def differences(self) -> Iterator[tuple[str, list[str]]]:
        """The names of pairs of rows and their differences by level."""
        return paired(self.own("differences"), self.experiment)

    def claims(self) -> list[dict[str, str]]:
        """The verdicts."""
        return [{str(key): str(value) for key, value in line.items()} for line in self.own("claims").to_dict("records")]

    def groups(self) -> pd.DataFrame:
        """Of the shown model."""
        return self.own("groups").query("model == @self.cell.model")

    def worst(self) -> pd.DataFrame:
        """Objects of the shown model."""
        return self.own("worst").query("model == @self.cell.model")

    @cached_property
    def charts(self) -> list[Drawn]:
        """All of `CHARTS`."""
        published = self.experiment["datasets"][self.cell.dataset]["published"]
        view = ChartData(
            titles={name: row_name(Row(name, False), self.experiment) for name in self.experiment["models"]},
            lead=self.cell.model,
            paper=PUBLISHED[published] if published else Figures({}, {}),
            tables=self.own("tables"),
            differences=self.own("differences"),
            groups=self.own("groups"),
            changes=self.own("changes"),
            curves=self.all_curves[self.all_curves["dataset"] == self.cell.dataset],
        )
        salt = self.cell.dataset
        return [
            Drawn(
                chart,
                chart.words(view),
                Markup(svg(chart, view, salt)),
                svg(chart, view, salt, f"{self.title}: {chart.title[0].lower()}{chart.title[1:]}"),
            )
            for chart in CHARTS
        ]

    @cached_property
    def telling(self) -> list[Example]:
        """The objects that show what iteration can do and undo."""
        scores, history, store = self._objects
        return [
            example(f"{self.cell.dataset}_{why.replace(' ', '_')}", why, row, history, store)
            for why, row in telling(scores).items()
        ]

    def browsed(self) -> Iterator[Example]:
        """A bounded number of objects, and of bytes."""
        scores, history, store = self._objects
        spent = 0
        for index, row in enumerate(browsed(scores)):
            shown = example(f"{self.cell.dataset}-grid-{index}", f"object {row['object']:g}", row, history, store)
            spent += shown.bytes
            if spent > BUDGET:
                return
            yield shown

    @cached_property
    def _objects(self) -> tuple[pd.DataFrame, pd.DataFrame, Store]:
        return pd.read_csv(self.scores), pd.read_parquet(self.iterations), Store.open(self.store)


def loss_curves(paths: Iterable[str]) -> pd.DataFrame:
    """The curves of all trainings, with dataset, model and seed."""
    parts = []
    for path in paths:
        parts.append(pd.read_csv(path).assign(**Training.of(path)._asdict()))
    return pd.concat(parts, ignore_index=True)
