"""Stage report: write a page with all results of the experiment, and its charts as files."""

from pathlib import Path

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.paths import Cell
from pipeline_lib.data.tables import read_table
from pipeline_lib.report.charts import CHARTS, svg
from pipeline_lib.report.examples import strip
from pipeline_lib.report.hardware import hardware
from pipeline_lib.report.page import REPORT, render
from pipeline_lib.report.provenance import data_files, time_spent, versions
from pipeline_lib.report.sections import loss_curves, objects_section, results_of, tables_section
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
        tables: tables.csv of the stage tables.
        differences: differences.csv of the stage tables.
        claims: claims.csv of the stage tables.
        groups: groups.csv of the stage analysis.
        changes: changes.csv of the stage analysis.
        worst: worst.csv of the stage analysis.
        curves: `…/{dataset}/{model}/{seed}.csv` of the stage train.
        iterations: `…/{dataset}/{model}/{seed}/{level}.parquet` of the stage refine, for each data set of the cell
            whose objects are shown.
        scores: `…/{dataset}/{model}/{seed}/{level}.csv` of the stage score, for the same cells.
        stores: `…/{dataset}.zarr` of the stage convert.
        manifests: `…/{dataset}/manifest.json` of the stage raw.
        weights: manifest of the backbone.
        html: page to write.
        figures: folder to write, with `{dataset}_{chart}.svg` and `{dataset}_{reason to show an object}.png`.
        experiment: titles and order, as for the stage tables.
        config: configuration of the experiment as YAML, which the page prints.
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
            dataset_title = experiment.datasets[results.cell.dataset].title
            for chart in CHARTS:
                title = f"{dataset_title}: {chart.title[0].lower()}{chart.title[1:]}"
                file = folder / f"{results.cell.dataset}_{chart.name}.svg"
                file.write_text(svg(chart, results, title)[1] + "\n", encoding="utf-8")
            for example in objects[results.cell.dataset]["telling"]:
                strip(example).save(folder / f"{example.name}.png", optimize=True)
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
