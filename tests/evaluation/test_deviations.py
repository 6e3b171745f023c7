"""Boxes matched to labelled objects, and how they deviate, by hand and by the command."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from click.testing import CliRunner

from pipeline_lib.cli import main
from pipeline_lib.data.boxes import XYXY, box_iou, deviate
from pipeline_lib.data.measured_deviations import EDGES
from pipeline_lib.evaluation.deviations import deviations, figures, level_of
from pipeline_lib.report.deviations import ADVICE, advice
from pipeline_lib.settings.boxes import Deviation, Kind

OBJECTS = {"a": (20, 30, 60, 110), "b": (100, 20, 140, 60), "c": (100, 100, 180, 140)}  # XYXY


def table(boxes: list[tuple[float, ...]], **columns: object) -> pd.DataFrame:
    return pd.DataFrame(boxes, columns=XYXY).assign(image="i.tif", slice=0, **columns)


@pytest.fixture
def objects() -> pd.DataFrame:
    return table(list(OBJECTS.values()), object=[1, 2, 3])


def given(*boxes: tuple[float, ...]) -> pd.DataFrame:
    return table(list(boxes), where=[f"boxes.csv:{line}" for line in range(2, len(boxes) + 2)], score=0.5)


def test_each_object_has_at_most_one_box(objects: pd.DataFrame) -> None:
    near, nearer, far = (102, 22, 142, 62), (101, 21, 141, 61), (300, 300, 320, 320)
    found = deviations(given(near, OBJECTS["a"], nearer, far), objects)
    assert found.pairs[["object", "where"]].values.tolist() == [[1, "boxes.csv:3"], [2, "boxes.csv:4"]]
    counts = {"objects": 3, "boxes": 4, "matched": 2, "missed": 1, "doubled": 1, "stray": 1}
    assert found.slices.to_dict("records") == [{"image": "i.tif", "slice": 0} | counts]


def test_edges_are_outward_shares_of_the_objects_sides(objects: pd.DataFrame) -> None:
    pair = deviations(given((16, 38, 68, 126)), objects).pairs.iloc[0]  # of an object 40 wide and 80 high
    assert pair[list(EDGES)].tolist() == [0.1, -0.1, 0.2, 0.2]
    assert pair[["shift_x", "shift_y"]].tolist() == pytest.approx([0.05, 0.15])
    assert pair["scale"] == pytest.approx(np.sqrt(1.3 * 1.1))
    assert pair["box_iou"] == pytest.approx(box_iou(np.array([16, 38, 68, 126.0]), np.array([20, 30, 60, 110.0])))


@pytest.mark.parametrize("level", [0, 10, 25, 40, 70])
def test_the_level_of_scaled_boxes_is_their_own(level: int) -> None:
    exact = np.tile([50.0, 50.0, 90.0, 130.0], (2, 1))
    both = deviate(exact, level, np.array([[0.0] * 4, [0.9] * 4]), Deviation(kind="scale", direction="both"))
    levels = level_of(box_iou(both.astype(float), exact), np.array([1 - level / 100, 1 + level / 100]))
    assert levels.tolist() == pytest.approx([level, level], abs=1e-4)


def test_a_slice_without_boxes_or_without_objects_counts(objects: pd.DataFrame) -> None:
    stray = given((1, 1, 9, 9)).assign(slice=1)
    found = deviations(pd.concat([stray, given(OBJECTS["a"])]), pd.concat([objects, objects.assign(slice=2)]))
    assert found.slices[["slice", "matched", "missed", "stray"]].values.tolist() == [
        [0, 1, 2, 0],
        [1, 0, 0, 1],
        [2, 0, 3, 0],
    ]


def test_figures_have_an_interval_only_with_several_slices(objects: pd.DataFrame) -> None:
    boxes, both = given(*OBJECTS.values()), pd.concat([objects, objects.assign(slice=1)])
    assert np.isnan(figures(deviations(boxes, objects).pairs)[0].value.low)
    moved = deviations(pd.concat([boxes, boxes.assign(slice=1, x0=boxes["x0"] - 16)]), both).pairs
    mean, *within = (figure.value for figure in figures(moved))
    assert mean.low < mean.value < mean.high == 1
    assert [share.value for share in within] == [pytest.approx(4 / 6), 1, 1, 1]


@pytest.mark.parametrize(("by", "highest"), [(0.0, 10), (0.1, 10), (0.3, 40), (0.4, 40), (0.5, 100)])
def test_the_advice_follows_the_levels(objects: pd.DataFrame, by: float, highest: int) -> None:
    loose = deviate(objects[XYXY], 100 * by, np.full((3, 4), 0.2), Deviation(kind="scale", direction="both"))
    assert advice(deviations(given(*map(tuple, loose)), objects)) == ADVICE[highest]


def test_the_advice_names_what_no_model_mends(objects: pd.DataFrame) -> None:
    boxes = given((40, 30, 80, 110), (300, 300, 320, 320))  # shifted by half of its width; of no object
    words = advice(deviations(boxes, objects))
    for fault in ("shifted by more than 20%", "Many objects have no box", "show no labelled object"):
        assert fault in words


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., str]:
    """Write label images and boxes that deviate by 20 %, run the command, and return what it says."""

    def run(kind: Kind, *options: str, suffix: str = ".png", fails: bool = False) -> str:
        (tmp_path / "labels").mkdir()
        rows = []
        for number in range(3):
            labels = np.zeros((160, 200), np.uint16)
            for value, (x0, y0, x1, y1) in enumerate(OBJECTS.values(), 1):
                labels[y0:y1, x0:x1] = value
            tifffile.imwrite(tmp_path / f"labels/s{number}.tif", labels)
            uniform = np.random.default_rng(number).random((3, 4))
            loose = deviate(list(OBJECTS.values()), 20, uniform, Deviation(kind=kind, direction="both"))
            rows += [(f"s{number}{suffix}", *box) for box in loose.tolist()]
        boxes = tmp_path / "boxes.csv"
        pd.DataFrame(rows, columns=["image", *XYXY]).to_csv(boxes, index=False)
        call = ["deviation", str(boxes), f"{tmp_path}/labels", "--out", f"{tmp_path}/out", *options]
        done = CliRunner().invoke(main, call)
        assert done.exit_code == fails, done.output
        return done.output

    return run


def test_the_command_measures_the_deviation_of_the_boxes(written: Callable[..., str], tmp_path: Path) -> None:
    said = written("scale")
    assert ADVICE[40] in said
    assert "share of boxes within 20 %: 1.000" in said
    assert "share of boxes within 10 %: 0.000" in said
    pairs, slices = (pd.read_csv(tmp_path / f"out/{name}.csv") for name in ("deviations", "slices"))
    assert pairs[list(EDGES)].abs().to_numpy() == pytest.approx(0.1, abs=1e-5)
    assert set(pairs["scale"].round(2)) == {0.8, 1.2}
    assert slices[["objects", "matched", "missed"]].values.tolist() == [[3, 3, 0]] * 3
    page = (tmp_path / "out/deviations.html").read_text()
    assert "9 of 9 labelled objects have a box" in page
    assert page.count("<svg") == 2
    assert "https://" not in page


def test_what_cannot_be_compared_is_an_error(written: Callable[..., str]) -> None:
    message = written("scale", "--minimum-score", "0.5", fails=True)
    assert "--minimum-score needs a score of each box, but 9 boxes have none" in message


def test_boxes_of_other_images_are_named(written: Callable[..., str]) -> None:
    assert "belongs to an image that is not there" in written("scale", suffix="_other.png", fails=True)


def test_labels_without_objects_of_the_size_are_named(written: Callable[..., str]) -> None:
    assert "expected objects of at least 99999 pixels" in written("edges", "--minimum-area", "99999", fails=True)
