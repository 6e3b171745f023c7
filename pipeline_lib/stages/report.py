"""Stage report: one page that holds everything the experiment has to say, and its charts as files."""

from pathlib import Path

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.paths import Cell
from pipeline_lib.data.tables import read_table
from pipeline_lib.report.charts import CHARTS, svg
from pipeline_lib.report.examples import strip
from pipeline_lib.report.hardware import hardware
from pipeline_lib.report.page import REPORT, loss_curves, objects_section, render, results_of, tables_section
from pipeline_lib.report.provenance import data_files, time_spent, versions
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.experiment import TablesConfig


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
    iterations: list[str],
    scores: list[str],
    stores: list[str],
    manifests: list[str],
    weights: str,
    html: str,
    figures: str,
    experiment: TablesConfig,
    config: str,
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
        iterations: of each data set, `…/{dataset}/{model}/{seed}/{level}.parquet` of the cell whose objects are shown.
        scores: those cells' tables of the stage score.
        stores: `…/{dataset}.zarr` of the stage convert.
        manifests: `…/{dataset}/manifest.json` of the stage raw.
        weights: manifest of the backbone.
        html: the page.
        figures: folder to write, `{dataset}_{chart}.svg` and `{dataset}_{why an object is shown}.png`.
        experiment: titles and order, as for the stage tables.
        config: the experiment's configuration as YAML, to be printed.
    """
    files = {"tables": tables, "differences": differences, "claims": claims}
    files |= {"groups": groups, "changes": changes, "worst": worst}
    csvs = {name: read_table(path) for name, path in files.items()} | {"curves": loss_curves(curves)}
    datasets = [results_of(Cell.of(path), experiment, csvs) for path in scores]
    objects = {
        results.cell.dataset: objects_section(results, *paths)
        for results, *paths in zip(datasets, scores, iterations, stores, strict=True)
    }
    sections = [tables_section(dataset, experiment, csvs) | objects.get(dataset, {}) for dataset in experiment.datasets]
    with atomic(figures) as folder:
        folder.mkdir(parents=True)
        for results in datasets:
            whose = experiment.datasets[results.cell.dataset].title
            for chart in CHARTS:
                title = f"{whose}: {chart.title[0].lower()}{chart.title[1:]}"
                file = folder / f"{results.cell.dataset}_{chart.name}.svg"
                file.write_text(svg(chart, results, title)[1] + "\n", encoding="utf-8")
            for shown in objects[results.cell.dataset]["telling"]:
                strip(shown).save(folder / f"{shown.name}.png", optimize=True)
    page = render(
        REPORT,
        sections=sections,
        audit=read_table(audit).to_dict("records"),
        levels=experiment.levels,
        seeds=experiment.seeds,
        backbone=Backbone.read(weights),
        config=config,
        data=list(data_files(manifests)),
        versions=versions(),
        hardware=hardware(),
        spent=list(time_spent(Path(html).parent / "benchmarks")),
    )
    with atomic(html) as partial:
        partial.write_text(page, encoding="utf-8")
