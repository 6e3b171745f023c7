"""Masks become label images and annotations of COCO."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco
from pycocotools.coco import COCO

from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.instances import Instances
from pipeline_lib.data.mask_formats.coco import coco_file, run_lengths
from pipeline_lib.data.masks import to_rle
from pipeline_lib.data.prompts import PlacedWindow, Prompts

SHAPE = (30, 40)
WINDOWS = (PlacedWindow("a", 0, 0, 0, 20), PlacedWindow("a", 0, 10, 15, 20), PlacedWindow("a", 1, 0, 0, 20))


def mask_of(y0: int, y1: int, x0: int, x1: int) -> NDArray[np.bool_]:
    mask = np.zeros((20, 20), bool)
    mask[y0:y1, x0:x1] = True
    return mask


MASKS = [  # window, mask, predicted IoU
    (0, mask_of(2, 12, 3, 18), 0.9),
    (1, mask_of(0, 5, 0, 10), 0.8),  # overlaps the first: y 10-15, x 15-25
    (1, mask_of(10, 20, 5, 20), 0.95),
    (2, mask_of(1, 4, 1, 4), 0.7),
    (0, np.zeros((20, 20), bool), 0.99),  # empty
]


@pytest.fixture
def instances() -> Instances:
    rows = [
        {"window": window, "box": number, "mask": to_rle(mask), "predicted_iou": iou, "output": True}
        for number, (window, mask, iou) in enumerate(MASKS, start=1)
    ]
    boxes = pd.DataFrame(
        {
            "image": "a",
            "slice": [0, 0, 0, 1, 0],
            "label": ["cell", "cell", "axon", "", ""],
            "score": [0.5] + [np.nan] * 4,
        },
        index=range(1, 6),
    )
    return Instances.of(Prompts((ImageFile("a", "a.tif", (2, *SHAPE), None, ""),), boxes, WINDOWS), pd.DataFrame(rows))


def truth(number: int) -> NDArray[np.bool_]:
    window, mask, _ = MASKS[number - 1]
    place = WINDOWS[window]
    whole = np.zeros((place.y + 20, place.x + 20), bool)
    whole[place.y :, place.x :] = mask
    return np.pad(whole, [(0, max(0, SHAPE[0] - whole.shape[0])), (0, max(0, SHAPE[1] - whole.shape[1]))])


def test_the_higher_predicted_iou_has_the_pixel(instances: Instances) -> None:
    expected = np.zeros(SHAPE, np.uint32)
    for number in (2, 1, 3):
        expected[truth(number)] = number
    block = instances.numbers("a", 0, slice(0, 30), slice(0, 40))
    np.testing.assert_array_equal(block, expected)
    assert (block[10:12, 15:18] == 1).all()


def test_blocks_fit_together(instances: Instances) -> None:
    whole = instances.numbers("a", 0, slice(0, 30), slice(0, 40))
    parts = [
        [instances.numbers("a", 0, slice(y, y + 10), slice(x, x + 8)) for x in range(0, 40, 8)] for y in (0, 10, 20)
    ]
    np.testing.assert_array_equal(np.block(parts), whole)
    assert set(np.unique(instances.numbers("a", 1, slice(0, 30), slice(0, 40)))) == {0, 4}


# as of `from_rle`: pycocotools 2.0.11 does not know NumPy 2's `copy` keyword
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pycocotools_reads_whole_masks(
    instances: Instances, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "coco.json"
    content = coco_file(instances)
    file.write_text(json.dumps(content))
    with_images = COCO(str(file))
    assert sorted(with_images.anns) == [1, 2, 3, 4]
    for number in with_images.anns:
        np.testing.assert_array_equal(with_images.annToMask(with_images.anns[number]).astype(bool), truth(number))
        assert with_images.anns[number]["area"] == truth(number).sum()
    names = {number: with_images.cats[entry["category_id"]]["name"] for number, entry in with_images.anns.items()}
    assert names == {1: "cell", 2: "cell", 3: "axon", 4: "object"}
    assert [with_images.anns[number]["score"] for number in (1, 2)] == [0.5, pytest.approx(0.8)]
    results = with_images.loadRes(content["annotations"])
    assert len(results.anns) == 4
    assert {image["slice"] for image in with_images.imgs.values()} == {0, 1}


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_are_pycocotools_own(seed: int) -> None:
    rng = np.random.default_rng(seed)
    crop = rng.random(rng.integers(1, 9, 2)) < rng.choice([0.3, 0.9, 1.0])
    if not crop.any():
        crop[0, 0] = True
    height, width = crop.shape[0] + rng.integers(0, 4), crop.shape[1] + rng.integers(0, 4)
    y, x = int(rng.integers(0, height - crop.shape[0] + 1)), int(rng.integers(0, width - crop.shape[1] + 1))
    whole = np.zeros((height, width), np.uint8, order="F")
    whole[y : y + crop.shape[0], x : x + crop.shape[1]] = crop
    expected = coco.encode(whole)
    assert run_lengths(crop, y, x, (int(height), int(width)))["counts"] == expected["counts"].decode()
