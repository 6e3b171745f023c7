"""Stage tables: the scores of all cells to the paper's tables and a verdict on each of its claims."""

from pathlib import Path

import pandas as pd

from pipeline_lib.data.paths import Cell
from pipeline_lib.evaluation.claims import PK, Figures, Thresholds
from pipeline_lib.evaluation.summary import (
    Experiment,
    check_objects,
    claim_lines,
    difference_lines,
    iterations_by_slice,
    miou_by_slice,
    read_json,
    seconds_of,
    table_lines,
    write_csv,
)
from pipeline_lib.report.markdown import document
from pipeline_lib.runtime.atomic import atomic


def tables(
    *,
    audit: str,
    scores: list[str],
    timings: list[str],
    embed_timings: list[str],
    markdown: str,
    csv: str,
    differences: str,
    claims: str,
    experiment: Experiment,
) -> None:
    """Write the tables for people (`markdown`) and as figures.

    Args:
        audit: not used here: no table is made before the stage audit has passed.
        scores: `…/{dataset}/{model}/{seed}/{level}.csv` of stage score, a row per test object.
        timings: `…/{dataset}/{model}/{seed}/{level}.json` of stage refine.
        embed_timings: `…/{dataset}.json` of stage embed.
        markdown: a table, its differences and its claims per data set.
        csv: dataset, model, iterated, level, miou, mean_iterations, objects, tiles, slices, seeds; `miou` and
            `mean_iterations` with their interval (`_low`, `_high`) and standard deviation over seeds (`_sd`).
        differences: dataset, model, iterated, over_model, over_iterated, level, gain with interval and standard
            deviation, p; of every two rows that differ either in the model or in being iterated.
        claims: dataset, claim, verdict, because.
        experiment: titles, order and the claims' bars.

    Raises:
        DataError: cells of a data set are of different test objects.
    """
    cells = {Cell.of(path): pd.read_csv(path) for path in scores}
    refine = {Cell.of(path): read_json(path) for path in timings}
    embed = {Path(path).stem: read_json(path) for path in embed_timings}
    lines: dict[str, list[dict[str, object]]] = {csv: [], differences: [], claims: []}
    for dataset in experiment["datasets"]:
        of_dataset = {cell: table for cell, table in cells.items() if cell.dataset == dataset}
        check_objects(of_dataset)
        miou, iterations = miou_by_slice(of_dataset, experiment), iterations_by_slice(of_dataset, experiment)
        proposed = {level: sums for (model, level), sums in iterations.items() if model == PK.model}
        figures = Figures(miou, proposed, seconds_of(of_dataset, refine, embed[dataset]))
        lines[csv] += table_lines(dataset, of_dataset, experiment)
        lines[differences] += difference_lines(dataset, miou)
        lines[claims] += claim_lines(dataset, figures, Thresholds(**experiment["claims"]))
    for path, own in lines.items():
        with atomic(path) as partial:
            write_csv(own, partial)
    with atomic(markdown) as partial:
        written = [pd.read_csv(path) for path in (csv, differences, claims)]  # what people read is what files say
        partial.write_text(document(written[0], written[1], written[2], experiment), encoding="utf-8")
