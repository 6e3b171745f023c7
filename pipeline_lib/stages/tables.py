"""Stage tables: the scores of all cells to the paper's tables and a verdict on each of its claims."""

from pipeline_lib.data.tables import read_table
from pipeline_lib.evaluation.summary import (
    claim_lines,
    difference_lines,
    read_scores,
    seconds_per_tile,
    sums_by_slice,
    table_lines,
    with_wholes,
    write_csv,
)
from pipeline_lib.report.markdown import document
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.experiment import TablesConfig


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
    experiment: TablesConfig,
) -> None:
    """Write the tables for people (`markdown`) and as figures.

    Args:
        audit: not used here: no table is made before the stage audit has passed.
        scores: `…/{dataset}/{model}/{seed}/{level}.csv` of stage score, a row per test object.
        timings: `…/{dataset}/{model}/{seed}/{level}.json` of stage refine.
        embed_timings: `…/{dataset}.json` of stage embed.
        markdown: a table, its differences and its claims per data set; of one in folds for all folds together first.
        csv: dataset, model, iterated, level, miou, kept (at the highest level: of the mIoU at the lowest),
            mean_iterations, objects, tiles, slices, seeds; `miou`, `kept` and `mean_iterations` with their interval
            (`_low`, `_high`) and standard deviation over seeds (`_sd`).
        differences: dataset, model, iterated, over_model, over_iterated, level, gain with interval and standard
            deviation, p; of every two rows that differ either in the model or in being iterated.
        claims: dataset, claim, verdict, because.
        experiment: titles, order and the claims' bars.

    Raises:
        DataError: cells of a data set are of different objects.
    """
    cells = with_wholes(read_scores(scores), experiment)
    sums = sums_by_slice(cells, experiment.miou)
    seconds = seconds_per_tile(cells, timings, embed_timings)
    files = {
        csv: table_lines(cells, sums, experiment),
        differences: difference_lines(sums, experiment),
        claims: claim_lines(sums, seconds, experiment),
    }
    for path, lines in files.items():
        with atomic(path) as partial:
            write_csv(lines, partial)
    with atomic(markdown) as partial:  # what people read is what the files say
        figures, gains, verdicts = (read_table(path) for path in (csv, differences, claims))
        partial.write_text(document(experiment, figures, gains, verdicts), encoding="utf-8")
