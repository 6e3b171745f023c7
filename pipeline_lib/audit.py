"""Stage audit: that the experiment is what its tables will say it is; without a pass of each check there are none."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pyarrow import parquet

from pipeline_lib.atomic import atomic
from pipeline_lib.boxes import Deviation, by_image, deviated, measure, read_boxes
from pipeline_lib.errors import AuditError
from pipeline_lib.measured import Cell, write_csv
from pipeline_lib.refine import MODEL_KEY
from pipeline_lib.sam import fingerprint, read_record
from pipeline_lib.store import Store

XYXY = ["x0", "y0", "x1", "y1"]
BOXES_OF_LABELS = "boxes are those of the labels"
UNSEEN_TEST = "no test image was trained or validated on"
OWN_MODELS = "models are those of their rows"
OWN_PASSES = "masks are of their row's model"
OWN_PROMPTS = "prompts are those of their seed, level and law"


class Row(NamedTuple):
    """What the config says of a row of the tables."""

    trained: str  # the model whose weights it has
    training: dict[str, Any]  # what decided these, but for data set and seed
    deviation: dict[str, Any]  # of its prompts


def audit(
    *, stores: list[str], boxes: list[str], models: list[str], passes: list[str], findings: str, rows: dict[str, Any]
) -> None:
    """Check the experiment and write what was found.

    Args:
        stores: `…/{dataset}.zarr` of the stage convert.
        boxes: `…/{dataset}.csv` of the stage boxes.
        models: `…/{dataset}/{model}/{seed}.safetensors` of the stage train.
        passes: `…/{dataset}/{model}/{seed}/{level}.parquet` of the stage refine.
        findings: CSV to write: check, dataset, found.
        rows: of each row of the tables, the entries of `Row`.

    Raises:
        AuditError: a check failed; the message begins with its name.
    """
    described = {name: Row(**row) for name, row in rows.items()}
    by_place = {Path(path).with_suffix("").parts[-3:]: path for path in models}
    lines = []
    for path, store in zip(boxes, map(Store.open, stores), strict=True):
        table = read_boxes(path)
        own = [(Cell.of(cell), cell) for cell in passes if Cell.of(cell).dataset == store.name]
        found = chain(
            boxes_of_labels(path, table, store),
            unseen_test(table, store),
            own_models(by_place, [cell for cell, _ in own], described),
            own_passes(by_place, own, described),
            own_prompts(table.query("split == 'test'"), store, own, described),
        )
        lines += [{"check": check, "dataset": store.name, "found": what} for check, what in found]
    with atomic(findings) as partial:
        write_csv(lines, partial)


def boxes_of_labels(path: str, table: pd.DataFrame, store: Store) -> Iterator[tuple[str, str]]:
    """Box and area of every object, measured again."""
    for image, rows in by_image(table):
        measured = np.array(list(measure(store.objects(image))))
        recorded = rows[["object", *XYXY, "area"]].to_numpy()
        if not np.array_equal(measured, recorded):
            raise AuditError(f"{BOXES_OF_LABELS}: the objects of image {image} of {store.name} are not those of {path}")
    yield BOXES_OF_LABELS, f"{len(table)} objects measured again"


def unseen_test(table: pd.DataFrame, store: Store) -> Iterator[tuple[str, str]]:
    """By their pixels, wherever they came from."""
    pixels = {image: store.image(image).tobytes() for image in map(int, table["image"].unique())}
    known = {pixels[image]: image for image in pixels if store.split(image) != "test"}
    test = [image for image in pixels if store.split(image) == "test"]
    for image in test:
        if pixels[image] in known:
            seen = known[pixels[image]]
            raise AuditError(
                f"{UNSEEN_TEST}: image {image} of {store.name} has the pixels of image {seen} ({store.split(seen)})"
            )
    yield UNSEEN_TEST, f"{len(test)} test images compared with {len(pixels) - len(test)} others"


def own_models(
    models: dict[tuple[str, ...], str], cells: list[Cell], rows: dict[str, Row]
) -> Iterator[tuple[str, str]]:
    """What each model's file says it was trained as."""
    runs = dict.fromkeys((cell.dataset, rows[cell.model].trained, cell.seed, cell.model) for cell in cells)
    for dataset, trained, seed, row in runs:
        path = models[dataset, trained, str(seed)]
        expected = {"dataset": dataset, "seed": seed, **rows[row].training}
        found = read_record(path)["training"]
        differing = [key for key in expected if found.get(key) != expected[key]]
        if differing:
            key = differing[0]
            raise AuditError(f"{OWN_MODELS}: {path}: {key} is to be {expected[key]}, found {found.get(key)}")
    yield OWN_MODELS, f"{len(runs)} rows of single seeds"


def own_passes(
    models: dict[tuple[str, ...], str], cells: list[tuple[Cell, str]], rows: dict[str, Row]
) -> Iterator[tuple[str, str]]:
    """Which file of weights the masks were made with."""
    for cell, path in cells:
        model = models[cell.dataset, rows[cell.model].trained, str(cell.seed)]
        made_with = (parquet.read_schema(path).metadata or {}).get(MODEL_KEY, b"").decode()
        if made_with != fingerprint(model):
            raise AuditError(f"{OWN_PASSES}: {path} is to be of {model}, found weights {made_with or 'unknown'}")
    yield OWN_PASSES, f"{len(cells)} tables of passes"


def own_prompts(
    test: pd.DataFrame, store: Store, cells: list[tuple[Cell, str]], rows: dict[str, Row]
) -> Iterator[tuple[str, str]]:
    """The first box of every object, drawn again."""
    shapes = np.array([store.shape(image) for image in test["image"]])
    for cell, path in cells:
        law = Deviation(**rows[cell.model].deviation)
        expected = deviated(test, cell.level, cell.dataset, cell.seed, law, shapes)
        first = pd.read_parquet(path, columns=["image", "object", "pass", *XYXY]).query("`pass` == 0")
        found = test[["image", "object"]].merge(first, on=["image", "object"], how="left")[XYXY].to_numpy()
        if not np.array_equal(found, expected):
            raise AuditError(f"{OWN_PROMPTS}: {path}: the boxes at pass 0 are not those of {cell}")
    yield OWN_PROMPTS, f"{len(test)} objects in {len(cells)} tables of passes"
