"""Planted faults, each of which turns a named check red; and what training may not see."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import zarr
from helpers.stages import run_stage
from helpers.training import SETTINGS
from pyarrow import parquet
from segment_anything.modeling import Sam

from pipeline_lib.data.boxes import deviated, read_boxes
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import to_rle
from pipeline_lib.data.paths import Cell
from pipeline_lib.data.predictions import RECORD
from pipeline_lib.errors import AuditError
from pipeline_lib.evaluation import audit as checks
from pipeline_lib.model.box_model import box_model, save_model
from pipeline_lib.runtime.hashing import file_digest
from pipeline_lib.settings.audit import ExpectedRow
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.model import ModelConfig
from pipeline_lib.settings.training import TrainingConfig
from pipeline_lib.stages.audit import audit
from pipeline_lib.stages.boxes import boxes
from pipeline_lib.stages.score import score
from pipeline_lib.stages.train import train

DEVIATION = {"kind": "scale", "direction": "both"}
TESTED = {"split": "test", "objects": None}
TRAIN = SETTINGS | {"epochs": 1, "objects_per_tile": 2, "validation_objects": 2}
SHAPES = {
    "sam": {"trains": ["mask_decoder"], "token": None},
    "proposed": {"trains": ["mask_decoder", "deviation_token"], "token": {"width": 8, "count": 1}},
}
TRAININGS = {
    name: {
        "model": shape,
        "mix": {"levels": [0], "shares": [1.0]},
        "deviation": DEVIATION,
        "train": TRAIN,
        "largest_component": False,
    }
    for name, shape in SHAPES.items()
}
SEEN = {"train": ["toy0"], "validation": []}
RECORDS = {name: TrainingConfig.model_validate(training).plain() for name, training in TRAININGS.items()}
ROWS = {
    name: {
        "trained": name.removeprefix("eager_"),
        "training": TRAININGS[name.removeprefix("eager_")],
        "deviation": DEVIATION,
    }
    for name in ("sam", "proposed", "eager_proposed")
}


@pytest.fixture
def world(tmp_path: Path, make_store, micro: Sam) -> dict:
    """A training and a test slice, two models, the first iterations of three rows at two levels."""
    objects = np.zeros((2, 16, 20), int)
    objects[:, 2:8, 2:9], objects[:, 9:14, 5:15], objects[1, 2:6, 12:18] = 1, 2, 3
    grey = np.random.default_rng(0).integers(0, 256, objects.shape)
    store = make_store(objects, ["train", "test"], images=grey, name="toy")
    table = str(tmp_path / "boxes" / "toy.csv")
    boxes(store=store, boxes=table)
    slots = {"stores": [store], "boxes": [table], "models": [], "iterations": [], "scores": [], "rows": ROWS}
    for name, record in RECORDS.items():
        model_config = ModelConfig.model_validate(SHAPES[name])
        path = tmp_path / "train" / "toy" / name / "0.safetensors"
        save_model(
            box_model(micro, model_config),
            path,
            "micro",
            model_config,
            {"dataset": "toy", "seed": 0, "precision": "float32", "images": SEEN, **record},
        )
        slots["models"].append(str(path))
    for name, row in ROWS.items():
        for level in (0, 40):
            path = tmp_path / "refine" / "toy" / name / "0" / f"{level}.parquet"
            write_iterations(
                path, read_boxes(table), level, tmp_path / "train" / "toy" / row["trained"] / "0.safetensors"
            )
            scores = tmp_path / "score" / "toy" / name / "0" / f"{level}.csv"
            scores.parent.mkdir(parents=True, exist_ok=True)
            run_stage(score, store=store, boxes=table, iterations=str(path), scores=str(scores), tested=TESTED)
            slots["iterations"].append(str(path))
            slots["scores"].append(str(scores))
    return slots | {"findings": str(tmp_path / "audit.csv"), "tested": TESTED}


def write_iterations(
    path: Path, table: pd.DataFrame, level: int, model: Path, precision: str = "float32", engine: str = "torch"
) -> None:
    """What the stage refine writes at iteration 0, of a network whose masks fill their boxes."""
    test = table.query("split == 'test'")
    prompts = deviated(test, level, "toy", 0, Deviation(**DEVIATION), (16, 20))
    rows = test[["tile", "object"]].assign(**{"iteration": 0, "output": True})
    rows[checks.XYXY] = prompts
    rows["mask"] = [full(*box.round().astype(int)) for box in prompts]
    path.parent.mkdir(parents=True, exist_ok=True)
    written = pa.Table.from_pandas(rows, preserve_index=False)
    precisions = {"embed": "float32", "refine": precision}
    record = {"model": file_digest(model), "precision": precisions, "engine": engine}
    parquet.write_table(written.replace_schema_metadata({RECORD: json.dumps(record)}), path)


def full(x0: int, y0: int, x1: int, y1: int) -> str:
    mask = np.zeros((16, 20), bool)
    mask[y0:y1, x0:x1] = True
    return to_rle(mask)


def expect_red(world: dict, check: str) -> None:
    with pytest.raises(AuditError, match=f"^{check}: "):
        run_stage(audit, **world)
    assert not Path(world["findings"]).exists()


def exchange(one: str, other: str) -> None:
    aside = Path(one).with_suffix(".aside")
    Path(one).rename(aside)
    Path(other).rename(one)
    aside.rename(other)


def test_a_sound_experiment_passes_every_check(world: dict) -> None:
    run_stage(audit, **world)
    found = pd.read_csv(world["findings"])
    assert found["check"].tolist() == [
        checks.BOXES_OF_LABELS,
        checks.SEPARATE_SPLITS,
        checks.OWN_MODELS,
        checks.UNSEEN_IMAGES,
        checks.OWN_ITERATIONS,
        checks.ONE_PRECISION,
        checks.OWN_PROMPTS,
        checks.OWN_SCORES,
    ]
    assert found["found"].iloc[0] == "5 objects measured again"


def test_truths_that_are_shuffled_between_objects_are_found(world: dict) -> None:
    labels = zarr.open_array(world["stores"][0], path="labels/objects/0", mode="r+")
    before = labels[:]
    labels[:] = np.choose(before, [0, 2, 1, 3])
    expect_red(world, checks.BOXES_OF_LABELS)


def test_training_slices_that_are_reused_as_test_are_found(world: dict) -> None:
    images = zarr.open_array(world["stores"][0], path="0", mode="r+")
    images[1] = images[0]
    expect_red(world, checks.SEPARATE_SPLITS)


def test_training_slices_that_are_called_test_are_found(world: dict) -> None:
    table = read_boxes(world["boxes"][0])
    table.assign(split="test").to_csv(world["boxes"][0], index=False)
    expect_red(world, checks.BOXES_OF_LABELS)


def test_a_tile_that_was_left_out_is_found(world: dict) -> None:
    table = read_boxes(world["boxes"][0])
    table.query("tile == 0").to_csv(world["boxes"][0], index=False)
    expect_red(world, checks.BOXES_OF_LABELS)


def test_scores_of_another_cell_are_found(world: dict) -> None:
    at_0, at_40, *_ = world["scores"]
    exchange(at_0, at_40)
    expect_red(world, checks.OWN_SCORES)


def test_scores_that_were_shuffled_between_objects_are_found(world: dict) -> None:
    path = world["scores"][1]
    scores = pd.read_csv(path)
    scores.assign(iou=np.roll(scores["iou"], 1)).to_csv(path, index=False)
    expect_red(world, checks.OWN_SCORES)


def test_models_of_two_rows_that_were_swapped_are_found(world: dict) -> None:
    exchange(*world["models"])
    expect_red(world, checks.OWN_MODELS)


def test_masks_of_two_rows_that_were_swapped_are_found(world: dict) -> None:
    sam, proposed = world["iterations"][0], world["iterations"][2]
    exchange(sam, proposed)
    expect_red(world, checks.OWN_ITERATIONS)


def test_masks_of_another_precision_than_the_others_are_found(world: dict) -> None:
    path, table = Path(world["iterations"][1]), read_boxes(world["boxes"][0])
    write_iterations(path, table, 40, Path(world["models"][0]), "bfloat16")
    expect_red(world, checks.ONE_PRECISION)


def test_masks_of_another_engine_than_the_others_are_found(world: dict) -> None:
    path, table = Path(world["iterations"][1]), read_boxes(world["boxes"][0])
    write_iterations(path, table, 40, Path(world["models"][0]), engine="openvino")
    with pytest.raises(AuditError, match=r"found engine torch in .*0\.parquet, and engine openvino in .*40\.parquet"):
        run_stage(audit, **world)


def test_a_model_that_was_trained_in_another_precision_is_found(world: dict, micro: Sam) -> None:
    path, model_config = world["models"][0], ModelConfig(trains=("mask_decoder",), token=None)
    record = {"dataset": "toy", "seed": 0, "precision": "bfloat16", "images": SEEN, **RECORDS["sam"]}
    save_model(box_model(micro, model_config), path, "micro", model_config, record)
    for level, cell in zip((0, 40), world["iterations"], strict=False):
        write_iterations(Path(cell), read_boxes(world["boxes"][0]), level, Path(path))
    expect_red(world, checks.ONE_PRECISION)


def test_masks_of_another_level_are_found(world: dict) -> None:
    at_0, at_40, *_ = world["iterations"]
    exchange(at_0, at_40)
    expect_red(world, checks.OWN_PROMPTS)


def test_a_model_of_another_seed_is_found(world: dict, micro: Sam) -> None:
    model_config = ModelConfig(trains=("mask_decoder",), token=None)
    record = {"dataset": "toy", "seed": 1, **RECORDS["sam"]}
    save_model(box_model(micro, model_config), world["models"][0], "micro", model_config, record)
    expect_red(world, checks.OWN_MODELS)


def resave(world: dict, micro: Sam, **record: Any) -> None:
    """Write the first model again with another record, and masks that it made."""
    path, model_config = world["models"][0], ModelConfig(trains=("mask_decoder",), token=None)
    whole = {"dataset": "toy", "seed": 0, "precision": "float32", "images": SEEN, **RECORDS["sam"], **record}
    save_model(box_model(micro, model_config), path, "micro", model_config, whole)
    for level, cell in zip((0, 40), world["iterations"], strict=False):
        write_iterations(Path(cell), read_boxes(world["boxes"][0]), level, Path(path))


@pytest.mark.parametrize("images", [{"train": ["toy1"], "validation": []}, {"train": [], "validation": ["toy1"]}])
def test_a_model_that_was_trained_on_a_tested_image_of_any_data_set_is_found(world, micro, images) -> None:
    resave(world, micro, images=images)
    expect_red(world, checks.UNSEEN_IMAGES)


def test_a_tested_image_is_compared_though_a_later_slice_of_another_split_shows_it_too(world: dict) -> None:
    store = Store.open(world["stores"][0])
    store = replace(store, images=("toy0", "toy0"), slices=store.slices[::-1])
    cell = Cell.of(world["scores"][0])
    row = ExpectedRow.model_validate(ROWS[cell.model] | {"file": world["models"][0]})
    models = checks.RowModels({cell.model: row}, {})
    with pytest.raises(AuditError, match="was trained on slice 1 of volume 0"):
        list(checks.unseen_images(store, "test", [cell], models))


def test_a_model_that_does_not_say_what_it_was_trained_on_is_found(world: dict, micro: Sam) -> None:
    resave(world, micro, images=None)
    expect_red(world, checks.UNSEEN_IMAGES)


def test_the_file_of_a_model_is_a_row_whose_images_are_compared_too(world: dict, micro: Sam) -> None:
    rows = world["rows"] | {"sam": ROWS["sam"] | {"training": None, "file": world["models"][0]}}
    run_stage(audit, **world | {"rows": rows})
    findings = pd.read_csv(world["findings"])
    assert findings.loc[findings["check"] == checks.UNSEEN_IMAGES, "found"].tolist() == [
        "1 images compared with those of 2 models"
    ]
    Path(world["findings"]).unlink()
    resave(world, micro, dataset="elsewhere", images={"train": ["toy1"], "validation": []})
    expect_red(world | {"rows": rows}, checks.UNSEEN_IMAGES)


def test_training_never_looks_at_the_test_split(stages: dict[str, str], tmp_path: Path) -> None:
    """With other test labels, training and the choice of the epoch end with the same bytes."""
    common = {"embeddings": [stages["embeddings"]], "weights": stages["weights"], "dataset": "toy", "seed": 0}
    common["training"] = TRAININGS["sam"]
    ends = []
    for name in ("as it is", "other truth"):
        store = tmp_path / name / "store"
        shutil.copytree(stages["store"], store)
        if name == "other truth":
            labels = zarr.open_array(store, path="labels/objects/0", mode="r+")
            labels[3] = labels[3][::-1].T  # the test slice
        table = tmp_path / name / "boxes.csv"
        boxes(store=str(store), boxes=str(table))
        model, curve = tmp_path / name / "model.safetensors", tmp_path / name / "curve.csv"
        run_stage(train, stores=[str(store)], boxes=[str(table)], model=str(model), curve=str(curve), **common)
        ends.append((model.read_bytes(), curve.read_bytes(), table.read_bytes()))
    (model, curve, table), (other_model, other_curve, other_table) = ends
    assert table != other_table
    assert (model, curve) == (other_model, other_curve)


def test_the_card_of_micro_lists_generated_images_only() -> None:
    library = Path(checks.__file__).parents[1]
    card = (library / "model/micro.md").read_text()
    trained_on = next(line for line in card.splitlines() if line.startswith("| trained on |"))
    assert "generated slices" in trained_on
    assert "No real image" in trained_on
    script = (library / "training/pretraining.py").read_text()
    readers = [line for line in script.splitlines() if "import" in line and ("readers" in line or "dataset" in line)]
    assert readers == []
    assert "from pipeline_lib.data.synthetic import" in script
