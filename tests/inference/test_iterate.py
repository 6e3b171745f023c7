"""Iteration with decoders made by hand, then the stage on a network with random weights."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.stages import run_stage

from pipeline_lib.data.boxes import deviated, read_boxes
from pipeline_lib.data.masks import bounding_box, from_rle
from pipeline_lib.inference.iterate import Prediction, ending, first_predictions, iterate, output_of
from pipeline_lib.model.backbones import load_backbone
from pipeline_lib.model.box_model import box_model, save_model
from pipeline_lib.runtime.journal import Journal
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.model import ModelConfig
from pipeline_lib.stages.refine import refine

SHAPE = (20, 20)
SETTINGS = {
    "tau": 0.05,
    "max_iterations": 10,
    "largest_component": False,
    "select": "last",
    "lead": 0.0,
    "mask_extent": None,
    "objects_per_batch": 4,
    "precision": "float32",
}
CONFIG = RefineConfig.model_validate(SETTINGS)


def changed(**keys):
    return RefineConfig.model_validate(SETTINGS | keys)


def block(x0, y0, x1, y1):
    mask = np.zeros(SHAPE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


class Predictor:
    """A rule from box to mask, and which objects each call of it was for."""

    def __init__(self, rule):
        self.rule, self.calls = rule, []

    def __call__(self, objects, boxes):
        self.calls.append(list(objects))
        return np.stack([self.rule(*box.astype(int)) for box in boxes]), np.full(len(boxes), 0.5, np.float32)


def run(rule, *boxes, config=CONFIG):
    predictor = Predictor(rule)
    return iterate(predictor, first_predictions(predictor, np.array(boxes, np.float32)), config), predictor.calls


def grow(x0, y0, x1, y1):
    return block(0, 0, min(x1 + 1, 20), 10)


def vanish(x0, y0, x1, y1):
    """A mask as wide as the box up to 6 pixels, nothing from there on."""
    return block(0, 0, x1 + 2 if x1 < 6 else 0, 10)


def swing(x0, y0, x1, y1):
    return block(0, 0, 4 if x1 > 4 else 8, 10)


def test_a_mask_that_fills_its_box_converges_with_one_repetition():
    (history,), calls = run(block, (2, 3, 8, 9))
    assert calls == [[0], [0]]
    assert [each.change_rate for each in history[1:]] == [0]
    np.testing.assert_array_equal(history[output_of(history, CONFIG)].mask, block(2, 3, 8, 9))


def test_the_first_pass_has_the_given_box_and_no_change_rate():
    (history,), _ = run(block, (2.5, 3.25, 8, 9))
    assert history[0].box.tolist() == [2.5, 3.25, 8, 9]
    assert np.isnan(history[0].change_rate)


def test_repeated_boxes_are_rectangles_of_the_mask_before():
    (history,), _ = run(grow, (0, 0, 2, 10))
    assert [each.box.tolist() for each in history[1:3]] == [[0, 0, 3, 10], [0, 0, 4, 10]]


def test_change_rates_are_pixels_per_area_of_the_box_around_the_mask_before():
    (history,), _ = run(grow, (0, 0, 2, 10), config=changed(tau=0.05, max_iterations=3, largest_component=False))
    assert [each.change_rate for each in history[1:]] == pytest.approx([10 / 30, 10 / 40, 10 / 50])


def test_a_mask_that_grows_forever_stops_at_the_cap():
    (history,), calls = run(grow, (0, 0, 2, 10), config=changed(tau=0.05, max_iterations=10, largest_component=False))
    assert calls == [[0]] * 11
    assert ending(history, CONFIG) == "cap"
    np.testing.assert_array_equal(history[output_of(history, CONFIG)].mask, block(0, 0, 13, 10))


def test_a_rate_of_exactly_tau_has_converged():
    (history,), _ = run(grow, (0, 0, 2, 10), config=changed(tau=10 / 40, max_iterations=10, largest_component=False))
    assert len(history) == 3
    assert ending(history, changed(tau=10 / 40)) == "converged"


def test_a_mask_that_returns_after_two_iterations_stops_there():
    (history,), calls = run(swing, (0, 0, 9, 10))
    assert ending(history, CONFIG) == "cycle"
    assert calls == [[0], [0], [0]]
    assert [each.change_rate for each in history[1:]] == pytest.approx([1, 0.5])
    np.testing.assert_array_equal(history[output_of(history, CONFIG)].mask, block(0, 0, 4, 10))


def test_a_mask_that_goes_empty_stops_and_the_last_one_before_is_the_output():
    (history,), calls = run(vanish, (0, 0, 3, 10))
    assert calls == [[0], [0], [0]]  # widths 5, 7, then nothing, which counts
    assert history[-1].change_rate == 1
    assert ending(history, CONFIG) == "empty"
    assert output_of(history, CONFIG) == 1
    np.testing.assert_array_equal(history[1].mask, block(0, 0, 7, 10))


def test_an_object_whose_first_mask_is_empty_is_never_repeated():
    (history,), calls = run(vanish, (0, 0, 9, 10))
    assert calls == [[0]]
    assert output_of(history, CONFIG) == 0
    assert not history[0].mask.any()


def test_only_objects_that_have_not_settled_are_predicted_again():
    def rule(x0, y0, x1, y1):
        return grow(x0, y0, x1, y1) if y1 <= 10 else block(x0, y0, x1, y1)

    histories, calls = run(
        rule,
        (0, 11, 5, 20),
        (0, 0, 2, 10),
        (3, 12, 9, 20),
        config=changed(tau=0.05, max_iterations=4, largest_component=False),
    )
    assert calls == [[0, 1, 2], [0, 1, 2], [1], [1], [1]]
    assert [len(history) for history in histories] == [2, 5, 2]
    np.testing.assert_array_equal(histories[2][1].mask, block(3, 12, 9, 20))


@pytest.mark.parametrize(
    ("select", "ious", "expected"),
    [("last", (0.9, 0.5, 0.6), 2), ("best", (0.9, 0.5, 0.6), 0), ("best", (0.5, 0.9, 0.6), 1), ("best", (0, 0, 0), 0)],
)
def test_the_output_is_the_last_iteration_or_the_one_of_the_highest_predicted_iou(select, ious, expected):
    history = [Prediction(np.zeros(4), block(0, 0, 4, 4), iou, 0.0) for iou in ious]
    assert output_of(history, changed(select=select)) == expected


@pytest.mark.parametrize(("lead", "expected"), [(0.0, 2), (0.1, 2), (0.2, 0)])
def test_with_a_lead_an_iteration_counts_only_if_it_is_clearly_better(lead, expected):
    history = [Prediction(np.zeros(4), block(0, 0, 4, 4), iou, 0.0) for iou in (0.5, 0.6, 0.65)]
    assert output_of(history, changed(select="best", lead=lead)) == expected


def test_without_a_first_mask_the_best_iteration_counts_whatever_its_lead():
    history = [
        Prediction(np.zeros(4), mask, iou, 0.0) for mask, iou in ((block(0, 0, 0, 0), 0.9), (block(0, 0, 4, 4), 0.2))
    ]
    assert output_of(history, changed(select="best", lead=0.15)) == 1


def test_no_iterations_are_made_where_none_are_allowed():
    (history,), calls = run(grow, (0, 0, 2, 10), config=changed(max_iterations=0))
    assert (len(history), calls) == (1, [[0]])


def test_an_empty_mask_is_never_the_best():
    history = [
        Prediction(np.zeros(4), mask, iou, 0.0) for mask, iou in ((block(0, 0, 4, 4), 0.2), (block(0, 0, 0, 0), 0.9))
    ]
    assert output_of(history, changed(select="best")) == 0


@pytest.mark.parametrize(("largest", "box"), [(False, [0, 0, 12, 12]), (True, [0, 0, 4, 4])])
def test_a_stray_component_inflates_the_box_unless_only_the_largest_counts(largest, box):
    (history,), _ = run(
        lambda *_: block(0, 0, 4, 4) | block(11, 11, 12, 12),
        (0, 0, 4, 4),
        config=changed(tau=0, max_iterations=2, largest_component=largest),
    )
    assert history[1].box.tolist() == box


SMALL = {**SETTINGS, "max_iterations": 3}
DEVIATION = {"kind": "scale", "direction": "both"}
CELL = {"dataset": "toy", "level": 20, "seed": 1, "tested": {"split": "test", "objects": None}, "deviation": DEVIATION}


@pytest.fixture(scope="module")
def refined(stages, tmp_path_factory):
    """The slots of a run of the stage."""
    folder, made = tmp_path_factory.mktemp("refined"), ModelConfig(trains=("mask_decoder",), token=None)
    slots = {
        **stages,
        **{name.split(".")[0]: str(folder / name) for name in ("model.safetensors", "iterations", "timing")},
    }
    save_model(box_model(load_backbone(stages["weights"]), made), slots["model"], "micro", made, {})
    run_stage(refine, **slots, **CELL, refine=SMALL)
    return slots


@pytest.fixture
def iterations(refined):
    return pd.read_parquet(refined["iterations"])


@pytest.fixture
def targets(refined):
    return read_boxes(refined["boxes"]).query("split == 'test'")


def test_every_test_object_has_its_iterations_in_order_and_one_output(iterations, targets):
    assert list(iterations.groupby(["tile", "object"]).groups) == list(zip(targets.tile, targets.object, strict=True))
    assert (iterations.groupby(["tile", "object"])["iteration"].diff().dropna() == 1).all()
    assert (iterations.groupby(["tile", "object"])["output"].sum() == 1).all()
    assert iterations["iteration"].between(0, SMALL["max_iterations"]).all()
    last = iterations.groupby(["tile", "object"])["iteration"].transform("max") == iterations["iteration"]
    assert iterations.loc[last, "ended"].isin(["converged", "cycle", "empty", "cap"]).all()
    assert iterations.loc[~last, "ended"].isna().all()
    capped = iterations[iterations["ended"] == "cap"]
    assert (capped["iteration"] == SMALL["max_iterations"]).all()


def test_the_first_boxes_are_the_deviated_ones(iterations, targets):
    first = iterations[iterations["iteration"] == 0][["x0", "y0", "x1", "y1"]]
    np.testing.assert_array_equal(first, deviated(targets, 20, "toy", 1, Deviation(**DEVIATION), (256, 256)))


def test_kept_masks_explain_the_boxes_that_follow(iterations):
    for _, history in iterations.groupby(["tile", "object"]):
        masks = [from_rle(counts, (256, 256)) for counts in history["mask"]]
        expected = [bounding_box(mask) for mask in masks[: len(history) - 1]]
        np.testing.assert_array_equal(history[["x0", "y0", "x1", "y1"]].to_numpy()[1:], np.reshape(expected, (-1, 4)))
    assert iterations["iteration"].max() > 0


def test_timing_counts_what_was_decoded(refined, iterations, targets):
    with open(refined["timing"]) as file:
        timing = json.load(file)
    assert timing["tiles"] == targets["tile"].nunique()
    assert timing["objects"] == len(targets)
    assert timing["repeated_predictions"] == (iterations["iteration"] > 0).sum()
    assert min(timing["first_seconds"], timing["repeated_seconds"]) > 0


def test_masks_do_not_depend_on_how_many_boxes_are_decoded_at_once(refined, iterations, tmp_path):
    other = {**refined, "iterations": str(tmp_path / "p"), "timing": str(tmp_path / "t")}
    run_stage(refine, **other, **CELL, refine={**SMALL, "objects_per_batch": 1})
    alone = pd.read_parquet(other["iterations"])
    pairs = zip(alone["mask"], iterations["mask"], strict=True)
    same = [np.mean(from_rle(a, (256, 256)) == from_rle(b, (256, 256))) for a, b in pairs]
    assert min(same) > 0.999  # sums of floats in another order may move a pixel at a border


@pytest.fixture
def run_all(refined, tmp_path):
    """Run the stage with all objects as test objects, of four tiles and in pieces, and return its iterations."""
    read_boxes(refined["boxes"]).assign(split="test").to_csv(tmp_path / "boxes", index=False)

    def run(name, code="", **changes):
        own = {"boxes": str(tmp_path / "boxes"), "iterations": str(tmp_path / name), "timing": str(tmp_path / "timing")}
        run_stage(refine, **{**refined, **own}, **CELL, refine={**SMALL, **changes}, code=code)
        return pd.read_parquet(own["iterations"])

    return run


@pytest.fixture
def added(monkeypatch):
    """What is added to a journal, and how many pieces may be before the process breaks off."""
    pieces, limit, add = [], [100], Journal.add

    def note(journal, piece):
        if len(pieces) == limit[0]:
            raise KeyboardInterrupt
        pieces.append(piece)
        add(journal, piece)

    monkeypatch.setattr(Journal, "add", note)
    return pieces, limit


def test_a_restarted_run_leaves_finished_pieces_out_and_ends_with_the_same_table(run_all, added, tmp_path):
    pieces, limit = added
    whole = run_all("whole")
    count = len(pieces)
    assert count == -(-whole[["tile", "object"]].drop_duplicates().shape[0] // SMALL["objects_per_batch"]) > 4
    pieces.clear()
    limit[0] = count - 1
    with pytest.raises(KeyboardInterrupt):
        run_all("broken")
    assert not (tmp_path / "broken").exists()
    limit[0] = count
    pd.testing.assert_frame_equal(run_all("broken"), whole)
    assert len(pieces) == count
    assert json.loads((tmp_path / "timing").read_text())["tiles"] == 4
    assert not (tmp_path / "broken.unfinished").exists()


@pytest.mark.parametrize("change", [{"tau": 0.1}, {"code": "1"}])
def test_pieces_of_a_run_with_other_settings_are_not_taken_over(refined, run_all, added, change):
    pieces, limit = added
    count = -(-len(read_boxes(refined["boxes"])) // SMALL["objects_per_batch"])
    limit[0] = 3
    with pytest.raises(KeyboardInterrupt):
        run_all("broken")
    limit[0] = 3 + count
    run_all("broken", **change)
    assert len(pieces) == 3 + count
