"""Stage report: one page that holds everything the experiment has to say, and its charts as files.

The page opens from disk and asks no host for anything: style, charts and crops are in it, and there is no script.
"""

import hashlib
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline_lib.atomic import atomic
from pipeline_lib.claims import Figures, Row
from pipeline_lib.config import files_of
from pipeline_lib.crops import BUDGET, Example, browsed, example, strip, telling
from pipeline_lib.figures import CHARTS, Chart, View, svg
from pipeline_lib.measured import Cell, Experiment, read_differences, read_json, read_lines
from pipeline_lib.published import PUBLISHED
from pipeline_lib.sam import Backbone, fingerprint
from pipeline_lib.store import Store
from pipeline_lib.tables import TableRow, pairs, row_name, shown_difference, table_rows

PACKAGES = ("loosebox", "numpy", "pandas", "scipy", "torch", "segment-anything-py", "zarr", "snakemake", "matplotlib")
STAGES = ("raw", "convert", "boxes", "weights", "embed", "train", "refine", "score", "audit", "tables", "analysis")
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
    passes: str
    scores: str
    store: str

    @property
    def title(self) -> str:
        """Of the config."""
        return self.experiment["datasets"][self.cell.dataset]["title"]

    @property
    def published(self) -> bool:
        """Whether the paper has this table."""
        return self.experiment["datasets"][self.cell.dataset]["published"] is not None

    @property
    def size(self) -> str:
        """Objects, images and seeds."""
        line = self.own("tables").iloc[0]
        seeds = f"{line['seeds']} seed{'s' if line['seeds'] > 1 else ''}"
        return f"{line['objects']} test objects in {line['images']} images, {seeds}"

    def own(self, csv: str) -> pd.DataFrame:
        """The lines of a CSV that are about this data set."""
        table = pd.read_csv(self.csvs[csv])
        return table[table["dataset"] == self.cell.dataset]

    def rows(self) -> Iterator[TableRow]:
        """Of the table."""
        lines = [line for line in read_lines(self.csvs["tables"]) if line.dataset == self.cell.dataset]
        return table_rows(lines, self.experiment)

    def differences(self) -> Iterator[tuple[str, list[str]]]:
        """The names of pairs of rows and their differences by level."""
        own = [each for each in read_differences(self.csvs["differences"]) if each.dataset == self.cell.dataset]
        return ((name, [shown_difference(each) for each in by_level]) for name, by_level in pairs(own, self.experiment))

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
        view = View(
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
        return pd.read_csv(self.scores), pd.read_parquet(self.passes), Store.open(self.store)


def report(
    *,
    audit: str,
    tables: str,
    differences: str,
    claims: str,
    groups: str,
    changes: str,
    worst: str,
    curves: list[str],
    passes: list[str],
    scores: list[str],
    stores: list[str],
    manifests: list[str],
    weights: str,
    html: str,
    figures: str,
    experiment: Experiment,
    config: dict[str, Any],
) -> None:
    """Write the page and its charts.

    Args:
        audit: CSV of the stage audit.
        tables: CSV of the stage tables; so are `differences` and `claims`.
        differences: see above.
        claims: see above.
        groups: CSV of the stage analysis; so are `changes` and `worst`.
        changes: see above.
        worst: see above.
        curves: `…/{dataset}/{model}/{seed}.csv` of the stage train.
        passes: of each data set, `…/{dataset}/{model}/{seed}/{level}.parquet` of the cell whose objects are shown.
        scores: those cells' tables of the stage score.
        stores: `…/{dataset}.zarr` of the stage convert.
        manifests: `…/{dataset}/manifest.json` of the stage raw.
        weights: manifest of the backbone.
        html: the page.
        figures: folder to write, `{dataset}_{chart}.svg` and `{dataset}_{why an object is shown}.png`.
        experiment: titles and order, as for the stage tables.
        config: printed as the experiment's configuration.
    """
    csvs = {"tables": tables, "differences": differences, "claims": claims}
    csvs |= {"groups": groups, "changes": changes, "worst": worst}
    curve_table = loss_curves(curves)
    datasets = [
        DataSet(Cell.of(cell[1]), experiment, csvs, curve_table, *cell)
        for cell in zip(passes, scores, stores, strict=True)
    ]
    with atomic(figures) as folder:
        folder.mkdir(parents=True)
        for dataset in datasets:
            for drawn in dataset.charts:
                file = folder / f"{dataset.cell.dataset}_{drawn.chart.name}.svg"
                file.write_text(drawn.file + "\n", encoding="utf-8")
            for shown in dataset.telling:
                strip(shown).save(folder / f"{shown.name}.png", optimize=True)
    template = Environment(
        loader=FileSystemLoader(TEMPLATE.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    ).get_template(TEMPLATE.name)
    page = template.render(
        datasets=datasets,
        audit=pd.read_csv(audit).to_dict("records"),
        levels=experiment["levels"],
        seeds=config["seeds"],
        backbone=Backbone.read(weights),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=100),
        data=list(data_files(manifests)),
        versions=versions(),
        hardware=hardware(),
        spent=list(time_spent(Path(html).parent / "benchmarks")),
    )
    with atomic(html) as partial:
        partial.write_text(page, encoding="utf-8")


def loss_curves(paths: Iterable[str]) -> pd.DataFrame:
    """The curves of all trainings, with dataset, model and seed."""
    parts = []
    for path in paths:
        dataset, model, seed = Path(path).with_suffix("").parts[-3:]
        parts.append(pd.read_csv(path).assign(dataset=dataset, model=model, seed=int(seed)))
    return pd.concat(parts, ignore_index=True)


def data_files(manifests: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The files of each volume: how many, and a digest of their digests."""
    for manifest in manifests:
        for volume in read_json(manifest)["volumes"]:
            for part in ("images", "labels"):
                files = files_of(volume[part])
                digest = hashlib.blake2b("".join(map(fingerprint, files)).encode(), digest_size=16).hexdigest()
                yield {
                    "dataset": Path(manifest).parent.name,
                    "path": volume[part],
                    "files": len(files),
                    "checksum": fingerprint(files[0]) if len(files) == 1 else digest,
                }


def versions() -> dict[str, str]:
    """Of Python and the packages that are here: on a cluster Snakemake itself runs elsewhere."""
    found = {"Python": platform.python_version()}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def hardware() -> dict[str, str]:
    """Of the machine that makes the report."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GiB",
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "system": f"{platform.system()} {platform.release()}",
    }


def time_spent(benchmarks: Path) -> Iterator[dict[str, Any]]:
    """Of each stage: jobs, their time one after the other, the longest, and the largest memory, from benchmarks."""
    for stage in STAGES:
        single = benchmarks / f"{stage}.tsv"
        files = [single] if single.exists() else sorted((benchmarks / stage).rglob("*.tsv"))
        if files:
            jobs = pd.concat([pd.read_csv(file, sep="\t", na_values="-") for file in files])
            yield {
                "stage": stage,
                "jobs": len(jobs),
                "total": str(timedelta(seconds=round(jobs["s"].sum()))),
                "longest": str(timedelta(seconds=round(jobs["s"].max()))),
                "memory": f"{jobs['max_rss'].max():.0f} MiB" if jobs["max_rss"].notna().any() else "",
            }
