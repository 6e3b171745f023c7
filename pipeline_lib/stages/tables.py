"""Stage tables: the scores of all cells of the experiment to the paper's tables and a verdict on each of its claims.

Its figures are made in `measured`; here is what is printed of them, in tables.md as in the report.
"""

from pathlib import Path

import pandas as pd

from pipeline_lib.data.paths import Cell
from pipeline_lib.evaluation.statistics import AVERAGES
from pipeline_lib.evaluation.summary import (
    Experiment,
    Runs,
    csv_claim,
    csv_difference,
    csv_line,
    measure,
    read_json,
    write_csv,
)
from pipeline_lib.report.markdown import LEGEND, section, seeds_words
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
    runs = Runs(
        {Cell.of(path): pd.read_csv(path) for path in scores},
        {Cell.of(path): read_json(path) for path in timings},
        {Path(path).stem: read_json(path) for path in embed_timings},
    )
    measured = [measure(dataset, runs, experiment) for dataset in experiment["datasets"]]
    with atomic(csv) as partial:
        write_csv((csv_line(line, each) for each in measured for line in each.lines), partial)
    with atomic(differences) as partial:
        write_csv((csv_difference(line) for each in measured for line in each.differences), partial)
    with atomic(claims) as partial:
        write_csv((csv_claim(each.dataset, *claim) for each in measured for claim in each.claims), partial)
    with atomic(markdown) as partial:
        sections = [
            LEGEND.format(average=AVERAGES[experiment["miou"]].words, seeds=seeds_words(runs)),
            *(section(each, experiment) for each in measured),
        ]
        partial.write_text("\n\n".join(sections) + "\n", encoding="utf-8")
