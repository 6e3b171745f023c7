"""Stage audit: check the experiment. There are no tables unless all checks pass."""

from itertools import chain

from pipeline_lib.data.boxes import read_boxes, read_objects
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.paths import Cell, Training
from pipeline_lib.evaluation.audit import (
    RowModels,
    boxes_of_labels,
    one_precision,
    own_iterations,
    own_models,
    own_prompts,
    own_scores,
    separate_splits,
    unseen_images,
)
from pipeline_lib.evaluation.summary import write_csv
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.audit import ExpectedRow
from pipeline_lib.settings.experiment import TestedObjects


def audit(
    *,
    stores: list[str],
    boxes: list[str],
    models: list[str],
    iterations: list[str],
    scores: list[str],
    findings: str,
    rows: dict[str, ExpectedRow],
    tested: TestedObjects,
) -> None:
    """Check the experiment, and write what each check compared.

    Args:
        stores: `…/{dataset}.zarr` of the stage convert.
        boxes: `…/{dataset}.csv` of the stage boxes.
        models: files of the rows' weights: `…/{dataset}/{model}/{seed}.safetensors` of the stage train, and those of
            models that the experiment does not train.
        iterations: `…/{dataset}/{model}/{seed}/{level}.parquet` of the stage refine.
        scores: `…/{dataset}/{model}/{seed}/{level}.csv` of the stage score, of the same cells.
        findings: CSV to write, with the columns check, dataset and found.
        rows: settings of each row of the tables, by model.
        tested: which objects are tested.

    Raises:
        AuditError: a check failed; the message begins with its name.
    """
    tested_split = tested.split, tested.objects
    files = {row.file for row in rows.values()}
    row_models = RowModels(rows, {Training.of(path): path for path in models if path not in files})
    lines = []
    for path, store in zip(boxes, map(Store.open, stores), strict=True):
        table = read_boxes(path)
        cells = [(Cell.of(cell), cell) for cell in iterations if Cell.of(cell).dataset == store.name]
        scored = [pair for pair in zip(scores, iterations, strict=True) if Cell.of(pair[0]).dataset == store.name]
        results = chain(
            boxes_of_labels(path, table, store),
            separate_splits(table, store),
            own_models([cell for cell, _ in cells], row_models),
            unseen_images(store, tested.split, [cell for cell, _ in cells], row_models),
            own_iterations(cells, row_models),
            one_precision(cells, row_models),
            own_prompts(read_objects(path, *tested_split), store, cells, rows),
            own_scores(scored, read_objects(path, *tested_split), store),
        )
        lines += [{"check": check, "dataset": store.name, "found": result} for check, result in results]
    with atomic(findings) as partial:
        write_csv(lines, partial)
