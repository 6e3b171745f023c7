"""Check that the results are those of the experiment that the tables describe.

Each check is a generator. It yields its name and what it compared, or raises an AuditError that begins with its name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pandas as pd

from pipeline_lib.data.boxes import XYXY, by_tile, deviated, object_boxes
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.data.paths import JOINT, Cell, Training
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
UNSEEN_IMAGES = "no model was trained on a tested image"
OWN_ITERATIONS = "masks are of their row's model"
OWN_PROMPTS = "prompts are those of their seed, level and deviation"
ONE_PRECISION = "all rows and levels are of one precision and engine"
OWN_SCORES = "scores are those of their masks"


def boxes_of_labels(path: str, table: pd.DataFrame, store: Store) -> Iterator[tuple[str, str]]:
    """Compare split, box and area of every object in a table of boxes with the labels of its store."""
    recorded, nothing = dict(by_tile(table)), table[:0]
    for tile in range(len(store)):
        rows = recorded.get(tile, nothing)[["split", "object", *XYXY, "area"]]
        objects = [(store.split(tile), *measures) for measures in object_boxes(store.objects(tile))]
        if objects != list(rows.itertuples(index=False, name=None)):
            raise AuditError(
                f"{BOXES_OF_LABELS}: the objects of tile {tile} of {store.name} are not those of {path}; delete this "
                "file and run again"
            )
    yield BOXES_OF_LABELS, f"{len(table)} objects measured again"


def separate_splits(table: pd.DataFrame, store: Store) -> Iterator[tuple[str, str]]:
    """Compare the pixels of all tiles with objects: no two tiles of different splits may be equal."""
    tiles: dict[bytes, int] = {}
    for tile in map(int, table["tile"].unique()):
        first = tiles.setdefault(blake2b(store.pixels(tile).tobytes()).digest(), tile)
        if store.split(first) != store.split(tile):
            raise AuditError(
                f"{SEPARATE_SPLITS}: tile {tile} ({store.split(tile)}) of {store.name} has the pixels of tile "
                f"{first} ({store.split(first)}); take the image out of one of these splits"
            )
    yield SEPARATE_SPLITS, f"{table['tile'].nunique()} tiles compared"


@dataclass(frozen=True)
class RowModels:
    """The rows of the tables, and the files of their weights."""

    rows: Mapping[str, ExpectedRow]
    files: Mapping[Training, str]  # file of each training of the experiment

    def training_of(self, cell: Cell) -> Training:
        """Return the training that the weights of a cell come from."""
        row = self.rows[cell.model]
        joint = row.training is not None and row.training.trained_on
        return Training(JOINT if joint else cell.dataset, row.trained, cell.seed)

    def file(self, cell: Cell) -> str:
        """Return the file of the weights of a cell."""
        return self.rows[cell.model].file or self.files[self.training_of(cell)]


def own_models(cells: list[Cell], models: RowModels) -> Iterator[tuple[str, str]]:
    """Compare the training that each model's file records with the settings of its row."""
    runs = {(cell.model, models.training_of(cell)): cell for cell in cells}
    for (model, run), cell in runs.items():
        path, training = models.file(cell), models.rows[model].training
        if training is None:
            continue
        expected = {"dataset": run.dataset, "seed": run.seed, **training.plain()}
        recorded = ModelHeader.read(path).training
        differing = [key for key in expected if recorded.get(key) != expected[key]]
        if differing:
            key = differing[0]
            raise AuditError(
                f"{OWN_MODELS}: {path}: {key}: expected {expected[key]}, found {recorded.get(key)}; delete this file "
                "and run again"
            )
    yield OWN_MODELS, f"{len(runs)} rows of single seeds"


def unseen_images(store: Store, split: str, cells: list[Cell], models: RowModels) -> Iterator[tuple[str, str]]:
    """Compare the tested images with those that each model was trained on, in any data set.

    On the test split, images that picked the best epoch must not be tested either.
    """
    slices = zip(store.images, store.slices, strict=True)
    tested = {digest: origin for digest, origin in slices if digest and origin.split == split}
    files = dict.fromkeys(map(models.file, cells))
    for path in files:
        recorded = ModelHeader.read(path).training.get("images")
        if recorded is None:
            raise AuditError(f"{UNSEEN_IMAGES}: {path} does not say which images it was trained on; train it again")
        training = {*recorded["train"], *(recorded["validation"] if split == "test" else ())}
        if shared := sorted(tested.keys() & training):
            raise AuditError(
                f"{UNSEEN_IMAGES}: {path} was trained on slice {tested[shared[0]].index} of volume "
                f"{tested[shared[0]].volume} of {store.name}, which is tested, and on {len(shared) - 1} more; test "
                "other slices, or use another model"
            )
    yield UNSEEN_IMAGES, f"{len(tested)} images compared with those of {len(files)} models"


def own_iterations(cells: list[tuple[Cell, str]], models: RowModels) -> Iterator[tuple[str, str]]:
    """Compare the file of weights that made the masks with that of their row."""
    for cell, path in cells:
        model = models.file(cell)
        digest = read_record(path).get("model")
        if digest != file_digest(model):
            raise AuditError(
                f"{OWN_ITERATIONS}: {path}: expected masks of {model}, found masks of weights {digest}; delete this "
                "file and run again"
            )
    yield OWN_ITERATIONS, f"{len(cells)} tables of iterations"


def one_precision(cells: list[tuple[Cell, str]], models: RowModels) -> Iterator[tuple[str, str]]:
    """Compare the precisions of each stage and the engine of the encoder: they could make rows differ.

    With `precision: auto`, it depends on the machine. The training of models that the experiment does not train is not
    compared.
    """
    firsts: dict[str, tuple[str, str]] = {}  # choice of each stage, or the engine, and the first file with it
    for cell, path in cells:
        record = read_record(path)
        choices = {**record["precision"], "engine": record.get("engine", "unknown")}
        if models.rows[cell.model].training is not None:
            choices["train"] = ModelHeader.read(models.file(cell)).training["precision"]
        for name, choice in choices.items():
            other, first = firsts.setdefault(name, (choice, path))
            if other != choice:
                advice = "refine all of them again" if name == "engine" else "set `precision` to one of them"
                raise AuditError(
                    f"{ONE_PRECISION}: found {name} {other} in {first}, and {name} {choice} in {path}; {advice}"
                )
    yield ONE_PRECISION, ", ".join(f"{name} {choice}" for name, (choice, _) in firsts.items())


def own_prompts(
    tested: pd.DataFrame, store: Store, cells: list[tuple[Cell, str]], rows: dict[str, ExpectedRow]
) -> Iterator[tuple[str, str]]:
    """Draw the box of every object again, and compare it with the first prompt."""
    shapes = np.array([store.shape(tile) for tile in tested["tile"]])
    for cell, path in cells:
        expected = deviated(tested, cell.level, cell.dataset, cell.seed, rows[cell.model].deviation, shapes)
        first = read_table(path, columns=["tile", "object", "iteration", *XYXY]).query("iteration == 0")
        prompts = tested[["tile", "object"]].merge(first, on=["tile", "object"], how="left")[XYXY].to_numpy()
        if not np.array_equal(prompts, expected):
            raise AuditError(
                f"{OWN_PROMPTS}: {path}: the boxes at iteration 0 are not those of {cell}; delete this file and run "
                "again"
            )
    yield OWN_PROMPTS, f"{len(tested)} objects in {len(cells)} tables of iterations"


def own_scores(pairs: list[tuple[str, str]], tested: pd.DataFrame, store: Store) -> Iterator[tuple[str, str]]:
    """Compare the objects of each cell, and score one tile of it again. All tiles would take as long as the stage."""
    for path, iterations in pairs:
        recorded = read_table(path)
        if not recorded[KEYS].equals(tested[KEYS]):
            raise AuditError(
                f"{OWN_SCORES}: {path}: expected the {len(tested)} tested objects, found others; delete this file and "
                "run again"
            )
        tile = int(recorded["tile"].iloc[0])
        history = read_table(iterations, filters=[("tile", "==", tile)]).sort_values([*KEYS, "iteration"])
        expected = score_tile(history, store, tile)
        scored = recorded.loc[recorded["tile"] == tile, expected.columns]
        if scored.shape != expected.shape or not np.allclose(scored, expected, rtol=0, atol=10**-DECIMALS):
            raise AuditError(
                f"{OWN_SCORES}: {path}: the scores of tile {tile} are not those of the masks in {iterations}; delete "
                f"{path} and run again"
            )
    yield OWN_SCORES, f"a tile of each of {len(pairs)} tables of scores"
