"""Stage tables: compute the tables of the paper and a verdict on each of its claims from the scores of all cells."""

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
    """Write the tables as Markdown and as CSV.

    Args:
        audit: CSV of the stage audit. It is not read, but no table is made before all checks have passed.
        scores: `…/{dataset}/{model}/{seed}/{level}.csv` of the stage score, a row per tested object.
        timings: `…/{dataset}/{model}/{seed}/{level}.json` of the stage refine.
        embed_timings: `…/{dataset}.json` of the stage embed.
        markdown: Markdown to write, with a table, differences and claims for each data set. A data set with folds has
            the tables of all folds together first.
        csv: CSV to write. Columns: dataset, model, iterated, level, miou, kept (mIoU at the highest level as a share of
            that at the lowest), mean_iterations, objects, tiles, slices, seeds; and for miou, kept and mean_iterations
            their interval (`_low`, `_high`) and standard deviation over seeds (`_sd`).
        differences: CSV to write, for any two rows that differ either in the model or in being iterated. Columns:
            dataset, model, iterated, over_model, over_iterated, level, gain with interval and standard deviation, p.
        claims: CSV to write. Columns: dataset, claim, verdict, because.
        experiment: titles and order of the rows, and the bars of the claims.

    Raises:
        DataError: cells of a data set have different objects.
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
    with atomic(markdown) as partial:  # made from the CSV files, so that both have the same figures
        figures, gains, verdicts = (read_table(path) for path in (csv, differences, claims))
        partial.write_text(document(experiment, figures, gains, verdicts), encoding="utf-8")
