"""Config files as they are written, before the workflow merges them."""

from pathlib import Path
from typing import Any

import pytest

from pipeline_lib.config import is_prompt_tuned, ordered, parts_of_datasets, with_folds, with_likes
from pipeline_lib.config_checks import MOST_ENTRIES, check_files
from pipeline_lib.errors import DataError

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES = {
    "a: 1\nb: 2\na: 3\n": "'a' is there twice",
    "a:\n  b: 1\n  c: {d: 1, d: 2}\n": "'d' is there twice in the section that begins at line 3",
    "a: [1, {b: 1, b: 2}]\n": "'b' is there twice",
    BOMB: f"more than {MOST_ENTRIES:,} entries",
    "a: &a [*a]\n": "more than",
    "[" * 3000: "expected YAML",
    "a: [\n": "expected YAML",
    "a: \x00\n": "expected YAML",
}


@pytest.mark.parametrize(("text", "message"), FILES.items(), ids=range(len(FILES)))
def test_a_file_that_says_something_twice_or_without_end_is_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "overlay.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=f"overlay.yaml: .*{message}"):
        check_files([file])


def test_anchors_as_people_use_them_are_taken(tmp_path: Path) -> None:
    file = tmp_path / "overlay.yaml"
    file.write_text("a: &a {b: 1}\nc: *a\nd: *a\n")
    check_files([file, *Path(__file__).parents[1].glob("experiments/**/*.yaml")])


def test_splits_have_one_order() -> None:
    split = {"test": [2, 3], "train": [0, 1]}
    (volume,) = ordered({"cells": {"title": "t", "volumes": [{"images": "i", "split": split}]}})["cells"]["volumes"]
    assert list(volume["split"].items()) == [("train", [0, 1]), ("test", [2, 3])]


def in_folds(count: int, *others: str, **own: Any) -> dict[str, Any]:
    """A config with a data set of two volumes, of 7 and 4 slices; the first one's keys may be others."""
    volumes = [
        {"images": "a", "split": {"train": [2, 4], "validation": [8, 9], "test": [4, 8]}} | own,
        {"images": "b", "split": {"train": [0, 4]}},
    ]
    cells = {"title": "Cells", "published": "em", "volumes": volumes, "folds": count}
    return {"datasets": {"cells": cells, **{name: {} for name in others}}, "experiment": {"datasets": ["cells"]}}


def slices(volumes: list[dict[str, Any]], *splits: str) -> list[tuple[str, int]]:
    """The slices of some splits, in order."""
    parts = [(v, v["split"][split]) for v in volumes for split in splits if split in v["split"]]
    return sorted((v["images"], z) for v, bounds in parts for z in range(*bounds, v.get("every", 1)))


@pytest.mark.parametrize(("count", "own"), [(3, {}), (4, {}), (3, {"split": {"train": [0, 33]}, "every": 5})])
def test_each_slice_is_in_one_split_of_each_fold_and_tested_in_one_fold(count: int, own: dict[str, Any]) -> None:
    config = in_folds(count, **own)
    whole = slices(config["datasets"]["cells"]["volumes"], "train", "validation", "test")
    made = with_folds(config)
    folds = [made["datasets"][name]["volumes"] for name in made["experiment"]["datasets"]]
    assert len(folds) == count
    assert all(slices(volumes, "train", "validation", "test") == whole for volumes in folds)
    assert sorted(z for volumes in folds for z in slices(volumes, "test")) == whole
    assert sorted(z for volumes in folds for z in slices(volumes, "validation")) == whole


def test_a_fold_validates_on_the_next_block_and_trains_on_both_sides() -> None:
    made = with_folds(in_folds(4))["datasets"]
    assert [v["split"] for v in made["cells_2"]["volumes"]] == [
        {"train": [2, 3], "validation": [5, 7], "test": [3, 5]},
        {"train": [7, 9]},
        {"train": [0, 1], "validation": [2, 3], "test": [1, 2]},
        {"train": [3, 4]},
    ]
    assert made["cells_4"]["volumes"][0]["split"] == {"train": [3, 7], "validation": [2, 3], "test": [7, 9]}


def test_a_data_set_in_folds_stands_before_them() -> None:
    config = in_folds(3, "others")
    config["experiment"]["datasets"].append("others")
    made = with_folds(config)
    folds = ["cells_1", "cells_2", "cells_3"]
    assert parts_of_datasets(made) == {"cells": folds} | {name: [name] for name in [*folds, "others"]}
    assert [made["datasets"][name]["title"] for name in folds] == [f"Cells, fold {n} of 3" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (in_folds(3, "cells_2"), r"datasets\.cells has folds, but there is a data set called cells_2 already"),
        (in_folds(5), r"cells \(b\): 5 folds are expected of its 4 slices; give at most 4"),
        (
            in_folds(3, split={"train": [0, 4], "test": [6, 9]}),
            r"\(a\): folds take slices in one run, but .* \[\[0, 4\], ",
        ),
    ],
)
def test_what_cannot_be_cut_into_folds_is_said(config: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        with_folds(config)


@pytest.mark.parametrize(
    ("trains", "tuned"),
    [
        (["mask_decoder"], False),
        (["mask_decoder", "image_adapter"], False),
        (["mask_decoder", "corner_embeddings"], True),
        (["deviation_token"], True),
    ],
)
def test_p_is_ticked_where_what_makes_prompts_is_trained(trains: list[str], tuned: bool) -> None:
    models = {"own": {"trains": trains}, "borrowed": {"weights_of": "own"}}
    assert [is_prompt_tuned({"models": models}, name) for name in models] == [tuned, tuned]


def test_a_model_that_borrows_weights_takes_nothing_that_was_trained_from_the_one_it_is_like() -> None:
    like = {"title": "l", "trains": ["image_adapter"], "mix": "m", "adapter": {"width": 8}, "token": {}, "train": {}}
    own = {"like": "like", "weights_of": "like", "refine": {"tau": 0.1}}
    assert with_likes({"like": like | {"refine": {"lead": 0.2}}, "own": own})["own"] == {
        "title": "l",
        "weights_of": "like",
        "refine": {"lead": 0.2, "tau": 0.1},
    }
