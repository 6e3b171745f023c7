"""What the report shows of single objects."""

import base64
import io
from urllib.request import urlopen

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import to_rle
from pipeline_lib.report.examples import Example, browsed, example, strip, telling

SCORES = pd.DataFrame(
    {
        "tile": 0,
        "object": range(1, 6),
        "area": 30,
        "iou": [0.5, 0.5, 0.5, 0.5, 0.5],
        "iou_iterated": [0.5, 0.9, 0.1, 0.6, 0.4],
        "iterations": [1, 9, 2, 3, 4],
    }
)


@pytest.fixture
def shown(make_store) -> Example:
    """An object of 5 by 6 pixels, hit by half and then fully, in a tile of 40 by 50."""
    objects = np.zeros((1, 40, 50), int)
    objects[0, 20:25, 30:36] = 1
    grey = np.random.default_rng(0).integers(0, 256, objects.shape)
    half = np.zeros((40, 50), bool)
    half[20:25, 30:33] = True
    history = pd.DataFrame(
        {"tile": 0, "object": 1, "iteration": [0, 1], "mask": [to_rle(half), to_rle(objects[0] == 1)]}
    ).assign(x0=30, y0=20, x1=[33, 36], y1=25, output=[False, True])
    row = SCORES.iloc[0]
    return example("cells-0", "best gain", row, history, Store.open(make_store(objects, ["test"], images=grey)))


def test_objects_are_chosen_by_what_iteration_does() -> None:
    """The one with most iterations is also the best gain, so the next takes its place."""
    chosen = {why: int(row["object"]) for why, row in telling(SCORES).items()}
    assert chosen == {"best gain": 2, "worst loss": 3, "median": 1, "most iterations": 5}


def test_browsing_goes_from_the_worst_loss_to_the_best_gain() -> None:
    assert [int(row["object"]) for row in browsed(SCORES)] == [3, 5, 1, 4, 2]


def test_every_pass_has_its_iou_and_the_truth_comes_last(shown: Example) -> None:
    assert [(panel.title, panel.iou, panel.is_kept) for panel in shown.panels] == [
        ("given box", ".500", False),
        ("iteration 1", "1.000", True),
        ("truth", "", False),
    ]


def test_the_crop_is_what_is_seen_with_a_margin_at_its_own_resolution(shown: Example) -> None:
    assert shown.crop.shape == (5 + 2 * 10, 6 + 2 * 10)
    assert shown.panels[0].box == (10, 10, 3, 5)
    assert shown.panels[2].mask.sum() == 30
    assert shown.png.startswith("data:image/png;base64,")
    with urlopen(shown.png) as file:
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file.read()))), shown.crop)


def test_a_mask_is_transparent_where_it_is_not(shown: Example) -> None:
    data = base64.b64decode(shown.panels[0].png.partition(",")[2])
    alpha = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))[..., 3]
    np.testing.assert_array_equal(alpha > 0, shown.panels[0].mask)


def test_a_strip_shows_all_panels_side_by_side(shown: Example) -> None:
    picture = strip(shown)
    assert picture.width > 3 * 8 * shown.crop.shape[1]
    assert len(set(picture.get_flattened_data())) > 100
