"""Checks that the experiment is what its tables will say it is."""

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np
import pandas as pd

from pipeline_lib.data.boxes import XYXY, by_tile, deviated, object_boxes
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.data.paths import Cell, Training
from pipeline_lib.data.predictions import read_record
from pipeline_lib.data.tables import read_table
from pipeline_lib.errors import AuditError
from pipeline_lib.evaluation.scores import KEYS, score_tile
from pipeline_lib.evaluation.statistics import DECIMALS
from pipeline_lib.runtime.hashing import file_digest
from pipeline_lib.settings.audit import ExpectedRow

BOXES_OF_LABELS = "boxes are those of the labels"
SEPARATE_SPLITS = "no tile is in two splits"
OWN_MODELS = "models are those of their rows"
OWN_ITERATIONS = "masks are of their row's model"
OWN_PROMPTS = "prompts are those of their seed, level and deviation"
ONE_PRECISION = "all rows and levels are of one precision"
OWN_SCORES = "scores are those of their masks"


def boxes_of_labels(path: str, table: pd.DataFrame, store: Store) -> Iterator[tuple[str, str]]:
    """Split, box and area of every object of every tile, measured again."""
    recorded, nothing = dict(by_tile(table)), table[:0]
    for tile in range(len(store)):
        rows = recorded.get(tile, nothing)[["split", "object", *XYXY, "area"]]
        measured = [(store.split(tile), *measures) for measures in object_boxes(store.objects(tile))]
        if measured != list(rows.itertuples(index=False, name=None)):
            raise AuditError(f"{BOXES_OF_LABELS}: the objects of tile {tile} of {store.name} are not those of {path}")
    yield BOXES_OF_LABELS, f"{len(table)} objects measured again"


def separate_splits(table: pd.DataFrame, store: Store) -> Iterator[tuple[str, str]]:
    """By the pixels of the tiles that have objects, wherever they came from."""
    tiles: dict[bytes, int] = {}
    for tile in map(int, table["tile"].unique()):
        first = tiles.setdefault(blake2b(store.pixels(tile).tobytes()).digest(), tile)
        if store.split(first) != store.split(tile):
            raise AuditError(
                f"{SEPARATE_SPLITS}: tile {tile} ({store.split(tile)}) of {store.name} has the pixels of tile "
                f"{first} ({store.split(first)})"
            )
    yield SEPARATE_SPLITS, f"{table['tile'].nunique()} tiles compared"


def own_models(
    models: dict[Training, str], cells: list[Cell], rows: dict[str, ExpectedRow]
) -> Iterator[tuple[str, str]]:
    """What each model's file says it was trained as."""
    runs = dict.fromkeys((cell.dataset, rows[cell.model].trained, cell.seed, cell.model) for cell in cells)
    for dataset, trained, seed, row in runs:
        path = models[Training(dataset, trained, seed)]
        expected = {"dataset": dataset, "seed": seed, **rows[row].training.plain()}
        recorded = ModelHeader.read(path).training
        differing = [key for key in expected if recorded.get(key) != expected[key]]
        if differing:
            key = differing[0]
            raise AuditError(f"{OWN_MODELS}: {path}: {key} is to be {expected[key]}, found {recorded.get(key)}")
    yield OWN_MODELS, f"{len(runs)} rows of single seeds"


def own_iterations(
    models: dict[Training, str], cells: list[tuple[Cell, str]], rows: dict[str, ExpectedRow]
) -> Iterator[tuple[str, str]]:
    """Which file of weights the masks were made with."""
    for cell, path in cells:
        model = models[Training(cell.dataset, rows[cell.model].trained, cell.seed)]
        made_with = read_record(path).get("model")
        if made_with != file_digest(model):
            raise AuditError(f"{OWN_ITERATIONS}: {path} is to be of {model}, found weights {made_with}")
    yield OWN_ITERATIONS, f"{len(cells)} tables of iterations"


def one_precision(
    models: dict[Training, str], cells: list[tuple[Cell, str]], rows: dict[str, ExpectedRow]
) -> Iterator[tuple[str, str]]:
    """What the stages' `precision` came to: rows made on unlike machines could differ by it alone."""
    files: dict[str, str] = {}
    for cell, path in cells:
        training = ModelHeader.read(models[Training(cell.dataset, rows[cell.model].trained, cell.seed)]).training
        precision = read_record(path)["precision"] | {"train": training["precision"]}
        files.setdefault(", ".join(f"{stage} {precision[stage]}" for stage in ("embed", "train", "refine")), path)
    if len(files) > 1:
        mixed = "; ".join(f"{precision} in {path}" for precision, path in files.items())
        raise AuditError(f"{ONE_PRECISION}: found {mixed}; give all rows one `precision` by name")
    yield ONE_PRECISION, next(iter(files))


def own_prompts(
    tested: pd.DataFrame, store: Store, cells: list[tuple[Cell, str]], rows: dict[str, ExpectedRow]
) -> Iterator[tuple[str, str]]:
    """The first box of every object, drawn again."""
    shapes = np.array([store.shape(tile) for tile in tested["tile"]])
    for cell, path in cells:
        expected = deviated(tested, cell.level, cell.dataset, cell.seed, rows[cell.model].deviation, shapes)
        first = read_table(path, columns=["tile", "object", "iteration", *XYXY]).query("iteration == 0")
        prompts = tested[["tile", "object"]].merge(first, on=["tile", "object"], how="left")[XYXY].to_numpy()
        if not np.array_equal(prompts, expected):
            raise AuditError(f"{OWN_PROMPTS}: {path}: the boxes at iteration 0 are not those of {cell}")
    yield OWN_PROMPTS, f"{len(tested)} objects in {len(cells)} tables of iterations"


def own_scores(pairs: list[tuple[str, str]], tested: pd.DataFrame, store: Store) -> Iterator[tuple[str, str]]:
    """The objects of each cell, and one of its tiles, scored again: a whole cell would take as long as it did."""
    for path, iterations in pairs:
        recorded = read_table(path)
        if not recorded[KEYS].equals(tested[KEYS]):
            raise AuditError(f"{OWN_SCORES}: {path}: expected the {len(tested)} objects tested, found others")
        tile = int(recorded["tile"].iloc[0])
        history = read_table(iterations, filters=[("tile", "==", tile)]).sort_values([*KEYS, "iteration"])
        expected = score_tile(history, store, tile)
        scored = recorded.loc[recorded["tile"] == tile, expected.columns]
        if scored.shape != expected.shape or not np.allclose(scored, expected, rtol=0, atol=10**-DECIMALS):
            raise AuditError(f"{OWN_SCORES}: {path}: tile {tile} is not scored as the masks of {iterations} are")
    yield OWN_SCORES, f"a tile of each of {len(pairs)} tables of scores"
