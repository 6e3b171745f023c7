"""The stage train: its model and curve, several data sets, and a start from another model."""

import shutil

import pytest
import torch
from helpers.stages import run_stage
from helpers.training import DEVIATION, SETTINGS, arguments, call
from safetensors.torch import load_file

from pipeline_lib.data.boxes import evenly_spaced
from pipeline_lib.data.model_header import ModelHeader
from pipeline_lib.errors import WeightsError
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.box_model import load_model
from pipeline_lib.stages.train import train
from pipeline_lib.training.validation import Validation


def test_the_curve_s_best_value_is_that_of_the_model_that_was_written(stages, tmp_path, source, table):
    curve = call(stages, tmp_path)
    held_out = evenly_spaced(table.query("split == 'validation'"), SETTINGS["validation_objects"])
    model = load_model(tmp_path / "model.safetensors")
    predictor = Predictor(model, source.frame, SETTINGS["precision"])
    miou = Validation(source, held_out, (0, 40), source.tiles.name, 0, DEVIATION).miou(predictor, lambda: None)
    assert list(curve.columns) == ["epoch", "learning_rate", "train_loss", "validation_miou", "kept"]
    assert curve["kept"].tolist() == (curve.index == curve["validation_miou"].idxmax()).tolist()
    assert curve["epoch"].tolist() == [0, 1, 2]
    assert curve["validation_miou"].max() == pytest.approx(miou, abs=1e-6)


def test_a_model_is_trained_on_several_data_sets_and_says_so(stages, tmp_path):
    other = tmp_path / "other.zarr"
    shutil.copytree(stages["store"], other)
    folder = tmp_path / "joint"
    folder.mkdir()
    plain = arguments(stages, folder, tiles_per_epoch=5)
    plain["stores"].append(str(other))
    plain["boxes"].append(stages["boxes"])
    plain["embeddings"].append(stages["embeddings"])
    plain["dataset"] = "joint"
    plain["training"]["trained_on"] = {"store": 1.0, "other": 4.0}
    run_stage(train, **plain)
    training = ModelHeader.read(folder / "model.safetensors").training
    assert training["trained_on"] == {"store": 1.0, "other": 4.0}
    assert len(training["images"]["train"]) == 2
    assert len(training["images"]["validation"]) == 1
    assert training["dataset"] == "joint"


def test_a_training_starts_from_a_model_of_its_shape(stages, tmp_path):
    for name in ("first", "second", "none"):
        (tmp_path / name).mkdir()
    call(stages, tmp_path / "first")
    start = tmp_path / "first/model.safetensors"
    plain = arguments(stages, tmp_path / "second", epochs=0) | {"start": str(start)}
    plain["training"]["starts_from"] = str(start)
    run_stage(train, **plain)
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("first", "second"))
    assert all(torch.equal(first[key], second[key]) for key in first)
    plain = arguments(stages, tmp_path / "none", name="sam", epochs=0) | {"start": str(start)}
    with pytest.raises(WeightsError, match=r"first/model\.safetensors: does not fit its network: .*unexpected"):
        run_stage(train, **plain)
