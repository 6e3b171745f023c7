"""From configuration files to settings: what is refused and how it is said, and what follows for each stage."""

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml
from helpers.running import ROOT
from safetensors.numpy import save_file

from pipeline_lib.config.defaults import default_config
from pipeline_lib.config.files import MOST_ENTRIES, check_files
from pipeline_lib.config.folds import parts_of_datasets, with_folds
from pipeline_lib.config.keys_page import keys_page
from pipeline_lib.config.overlays import merged, with_likes
from pipeline_lib.config.read import read_config
from pipeline_lib.config.rows import (
    audited_rows,
    is_prompt_tuned,
    printed,
    tables_config,
    training_of,
    training_sets,
    trainings,
    weights_file,
)
from pipeline_lib.config.sets import image_sets
from pipeline_lib.data.box_formats.table import NAMES
from pipeline_lib.data.layouts import LAYOUTS
from pipeline_lib.errors import DataError
from pipeline_lib.model.backbones import BACKBONES
from pipeline_lib.settings.backbone import BackboneName
from pipeline_lib.settings.config import Config
from pipeline_lib.settings.datasets import SyntheticSource, Volume
from pipeline_lib.settings.segment import BoxFormatName
from pipeline_lib.settings.training import TrainConfig
from pipeline_lib.training.losses import LOSSES

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
FILES = {
    "a: 1\nb: 2\na: 3\n": "has the key 'a' twice",
    "a:\n  b: 1\n  c: {d: 1, d: 2}\n": "the section that begins at line 3 has the key 'd' twice",
    "a: [1, {b: 1, b: 2}]\n": "has the key 'b' twice",
    BOMB: f"expected at most {MOST_ENTRIES:,} entries",
    "a: &a [*a]\n": "expected at most",
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


def config(overlay: dict[str, Any] | None = None) -> Config:
    """The default configuration with an overlay."""
    return read_config(merged(default_config(), overlay or {}))


# What is refused


MESSAGES: list[tuple[dict[str, Any], str]] = [
    ({"train": {"epochs": -1}}, "train.epochs is -1, expected an integer of at least 0"),
    ({"train": {"epochs": True}}, "train.epochs is True, expected an integer of at least 0"),
    ({"train": {"epochs": 1.0}}, "train.epochs is 1.0, expected an integer of at least 0"),
    ({"refine": {"tau": float("nan")}}, "refine.tau is nan, expected a number from 0 to 1"),
    ({"train": {"learning_rate": "0.1"}}, "train.learning_rate is '0.1', expected a number above 0"),
    ({"refine": {"taus": 1}}, "refine.taus is an unknown key; did you mean refine.tau?"),
    ({"title": 1}, "title is an unknown key; expected one of results, data, experiment, "),
    ({"embed": 4}, "embed is 4, expected a section with the keys precision, dtype, batch"),
    ({"experiment": {"seeds": [0, 0]}}, "experiment.seeds is [0, 0], expected no value twice"),
    ({"datasets": {"Cells": {}}}, "datasets.Cells is not a valid name, expected a name of lower-case letters"),
    ({"datasets": {"cells": {"source": {"seed": -1}}}}, "datasets.cells.source.seed is -1, expected an integer of at"),
    ({"datasets": {"cells": {"source": {"kind": "web"}}}}, "datasets.cells.source.kind is 'web', expected synthetic, "),
    ({"datasets": {"cells": {"source": {"kind": "path"}}}}, "datasets.cells.source.folder is missing, expected text"),
    ({"datasets": {"cells": {"source": {"seeds": 1}}}}, "datasets.cells.source.seeds is an unknown key; did you mean"),
    ({"datasets": {"cells": {"grey_range": [9, 1]}}}, "datasets.cells.grey_range is [9, 1], expected null or [black, "),
    ({"datasets": {"cells": {"labels": {"kind": "binary"}}}}, "datasets.cells.labels.foreground is missing"),
    ({"train": {"mixes": {"paper": {"shares": [1.0]}}}}, "train.mixes.paper is {"),
    ({"models": {"sam": {"train": {"epochs": "2"}}}}, "models.sam.train.epochs is '2', expected an integer of at"),
    (
        {"models": {"sam": {"train": {"lose": "sam"}}}},
        "models.sam.train.lose is an unknown key; did you mean models.sam.train.",
    ),
    ({"models": {"sam": {"train": {"precision": "auto"}}}}, "models.sam.train.precision is set, but precision must be"),
    ({"models": {"sam": {"refine": 3}}}, "models.sam.refine is 3, expected a section"),
    ({"models": {"sam": {"weights_of": "sam_p"}}}, "models.sam.trains is an unknown key"),
    ({"models": {"sam": 3}}, "models.sam is 3, expected a section"),
    ({"models": 3}, "models is 3, expected a section"),
    ({"segment": {"refine": {"leed": 1}}}, "segment.refine.leed is an unknown key; did you mean segment.refine.lead?"),
    ({"segment": {"grey": {"range": [1, 2], "percentiles": [1, 2]}}}, "segment.grey.range is an unknown key"),
    ({"predict": {"mine": {"images": "a", "boxes": [], "model": None}}}, "predict.mine.boxes is [], expected text or"),
    ({"predict": {"mine": {"boxes": "b", "model": None}}}, "predict.mine.images is missing, expected"),
    (
        {"predict": {"mine": {"images": "a", "boxes": "b", "model": None, "segment": {"window": 1, "grey": 3}}}},
        "predict.mine.segment.window is 1, expected null or an integer of at least 16",
    ),
    ({"refine": {"tau": 2}}, "refine.tau is 2, expected a number from 0 to 1"),
    ({"experiment": {"levels": [0, 150]}}, "experiment.levels.1 is 150, expected an integer from 0 to 99"),
    ({"experiment": {"datasets": ["nowhere"]}}, "experiment.datasets names 'nowhere', but datasets has only"),
    ({"train": {"mixes": {"paper": {"shares": [0.6, 0.2, 0.1]}}}}, "expected shares that sum to 1, found 0.9"),
    (
        {"train": {"mixes": {"measured": {"deviations": "nowhere.csv"}}}, "models": {"sam": {"mix": "measured"}}},
        "train.mixes.measured.deviations is 'nowhere.csv', but there is no such file; write it with `loosebox dev",
    ),
    ({"models": {"sam": {"mix": "none"}}}, "models.sam.mix is 'none', but train.mixes has only"),
    ({"models": {"sam": {"token": {"count": 2}}}}, "models.sam.token is set, but the model does not train"),
    ({"models": {"sam": {"adapter": {"width": 8}}}}, "models.sam.adapter is set, but the model does not train"),
    ({"models": {"mine": {"title": "m", "like": "nobody"}}}, "models.mine.like is 'nobody', but models has only"),
    ({"models": {"sam": {"like": "sam_p"}, "sam_p": {"like": "sam"}}}, "models.sam_p.like leads back to 'sam'"),
    ({"models": {"sam": {"prompt_tuning": True}}}, "models.sam.prompt_tuning is an unknown key"),
    ({"models": {"sam": {"refine": {"precision": "float32"}}}}, "models.sam.refine.precision is set, but precision"),
    ({"models": {"proposed": {"weights_off": "sam"}}}, "models.proposed.weights_off is an unknown key"),
    ({"models": {"proposed": {"refine": {"taus": 0.1}}}}, "did you mean models.proposed.refine.tau?"),
    ({"models": {"proposed": {"train": {"mixes": {}}}}}, "models.proposed.train.mixes is an unknown key"),
    (
        {"models": {"mine": {"title": "m", "weights_of": "nobody"}}},
        "models.mine.weights_of is 'nobody', expected one of",
    ),
    ({"experiment": {"models": ["nobody"]}}, "experiment.models names 'nobody', but models has only"),
    (
        {"deviation": {"kind": "translate", "direction": "grow"}},
        "deviation.direction 'grow' has no meaning for the kind",
    ),
    (
        {"deviation": {"direction": "grow"}, "train": {"mixes": {"paper": {"kinds": ["translate"]}}}},
        "models.sam.mix draws the kind 'translate'",
    ),
    (
        {"models": {"sam": {"deviation": {"kind": "translate", "direction": "grow"}}}},
        "models.sam.deviation.direction 'grow' has no meaning",
    ),
    ({"datasets": {"cells": {"grey_range": [0, float("inf")]}}}, "datasets.cells.grey_range.1 is inf"),
    ({"experiment": {"seeds": [2**40]}}, "experiment.seeds.0 is 1099511627776, expected an integer from"),
    ({"results": "~/x"}, "results is '~/x', expected the path of a folder"),
    ({"results": "<logs>"}, "results is '<logs>', expected the path of a folder"),
    ({"results": "x" * 300}, "expected the path of a folder, at most 200 characters"),
    ({"datasets": {"cells": {"title": "two\nlines"}}}, "datasets.cells.title is 'two\\nlines', expected one line"),
    (
        {
            "datasets": {
                "cells": {"volumes": [{"images": "a", "labels": "b", "split": {"train": [0, 2], "test": [1, 3]}}]}
            }
        },
        "but slices 1 to 2 are in both train and test",
    ),
]


@pytest.mark.parametrize(("overlay", "message"), MESSAGES, ids=[message.split(" is ")[0] for _, message in MESSAGES])
def test_a_wrong_key_is_named_with_its_path_and_what_was_expected(overlay: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as refused:
        config(overlay)
    assert message in str(refused.value)


def test_all_problems_are_in_one_message_and_each_once() -> None:
    overlay = {"train": {"epochs": -1}, "refine": {"tau": 2}, "models": {"sam": {"refine": {"lead": 2}}}}
    with pytest.raises(DataError) as refused:
        config(overlay)
    assert str(refused.value).count("expected") == 3


def test_a_range_and_patterns_and_the_rest_are_splits() -> None:
    for split in ({"train": "rest", "test": ["a*", "b"]}, {"train": [0, 4], "test": [4, 5]}):
        Volume.model_validate({"images": "i", "labels": "l", "split": split})
    for split in ({"train": "rest", "test": "rest"}, {"train": [0, 4], "test": [3, 5]}, {"train": [2, 2]}, {}):
        with pytest.raises(ValueError, match="split"):
            Volume.model_validate({"images": "i", "labels": "l", "split": split})


def test_an_overlay_can_change_the_kind_of_a_source() -> None:
    source = config({"datasets": {"cells": {"source": {"kind": "path", "folder": "f"}}}}).datasets["cells"].source
    assert source.model_dump() == {"kind": "path", "folder": "f"}


def test_names_of_the_settings_are_those_of_the_code() -> None:
    assert set(get_args(BackboneName)) == set(BACKBONES)
    assert set(get_args(BoxFormatName)) == set(NAMES)
    assert set(get_args(TrainConfig.model_fields["loss"].annotation)) == set(LOSSES)
    assert set(get_args(SyntheticSource.model_fields["layout"].annotation)) == set(LAYOUTS)


# What is documented


def test_the_page_of_keys_is_up_to_date() -> None:
    page = (ROOT / "docs/keys.md").read_text(encoding="utf-8")
    assert page == keys_page(), "run `python -m pipeline_lib.config.keys_page > docs/keys.md`"


def test_what_the_report_prints_is_a_configuration() -> None:
    written = config({"models": {"wide": {"like": "proposed", "title": "wide", "token": {"width": 512}}}})
    assert read_config(yaml.safe_load(printed(written))) == written


# Folds


def in_folds(count: int, *others: str, **keys: Any) -> Config:
    """A config with a data set of two volumes, of 7 and 4 slices; the first one's keys can be others."""
    volumes = [
        {"images": "a", "labels": "l", "split": {"train": [2, 4], "validation": [8, 9], "test": [4, 8]}} | keys,
        {"images": "b", "labels": "m", "split": {"train": [0, 4]}},
    ]
    plain = default_config()
    plain["datasets"]["cells"] |= {"title": "Cells", "published": "em", "volumes": volumes, "folds": count}
    plain["datasets"] |= {name: plain["datasets"]["membranes"] for name in others}
    plain["experiment"]["datasets"] = ["cells"]
    return Config.model_validate(plain)


def slices(volumes: tuple[Volume, ...], *splits: str) -> list[tuple[str, int]]:
    """The slices of some splits, in order."""
    parts = [(v, bounds) for v in volumes for split, bounds in v.split.ranges().items() if split in splits]
    return sorted((v.images, z) for v, bounds in parts for z in range(*bounds, v.every))


@pytest.mark.parametrize(("count", "keys"), [(3, {}), (4, {}), (3, {"split": {"train": [0, 33]}, "every": 5})])
def test_each_slice_is_in_one_split_of_each_fold_and_tested_in_one_fold(count: int, keys: dict[str, Any]) -> None:
    written = in_folds(count, **keys)
    whole = slices(written.datasets["cells"].volumes, "train", "validation", "test")
    made = with_folds(written)
    folds = [made.datasets[name].volumes for name in made.experiment.datasets]
    assert len(folds) == count
    assert all(slices(volumes, "train", "validation", "test") == whole for volumes in folds)
    assert sorted(z for volumes in folds for z in slices(volumes, "test")) == whole
    assert sorted(z for volumes in folds for z in slices(volumes, "validation")) == whole


def test_a_fold_validates_on_the_next_block_and_trains_on_both_sides() -> None:
    made = with_folds(in_folds(4)).datasets
    assert [v.split.ranges() for v in made["cells_2"].volumes] == [
        {"train": (2, 3), "validation": (5, 7), "test": (3, 5)},
        {"train": (7, 9)},
        {"train": (0, 1), "validation": (2, 3), "test": (1, 2)},
        {"train": (3, 4)},
    ]
    ranges = made["cells_4"].volumes[0].split.ranges()
    assert ranges == {"train": (3, 7), "validation": (2, 3), "test": (7, 9)}


def test_a_data_set_in_folds_stands_before_them() -> None:
    written = in_folds(3)
    both = ("cells", "membranes")
    written = written.model_copy(update={"experiment": written.experiment.model_copy(update={"datasets": both})})
    folds = ["cells_1", "cells_2", "cells_3"]
    assert parts_of_datasets(written) == {"cells": folds} | {name: [name] for name in [*folds, "membranes"]}
    assert with_folds(written).experiment.datasets == (*folds, "membranes")
    shown = tables_config(written).datasets
    assert [shown[name].title for name in folds] == [f"Cells, fold {n} of 3" for n in (1, 2, 3)]
    assert [(name, each.published) for name, each in shown.items()][:2] == [("cells", "em"), ("cells_1", None)]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (in_folds(3, "cells_2"), r"datasets\.cells has folds, so cells_2 cannot be the name of another data set"),
        (in_folds(5), r"cells \(b\): expected at most 4 folds, one for each slice; found 5"),
        (
            in_folds(3, split={"train": [0, 4], "test": [6, 9]}),
            r"\(a\): expected splits that are one run of slices, .* \[\[0, 4\], ",
        ),
        (
            in_folds(3, split={"train": [0, 4], "test": "rest"}),
            r"\(a\): expected ranges of slices, .* but a split names",
        ),
    ],
)
def test_what_cannot_be_cut_into_folds_is_said(written: Config, message: str) -> None:
    with pytest.raises(DataError, match=message):
        with_folds(written)


# Rows


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
    models = {"own": {"title": "o", "trains": trains, "mix": "paper"}, "borrowed": {"title": "b", "weights_of": "own"}}
    written = config({"models": models})
    assert [is_prompt_tuned(written, name) for name in models] == [tuned, tuned]


def test_a_model_that_borrows_weights_takes_nothing_that_was_trained_from_the_one_it_is_like() -> None:
    like = {"title": "l", "trains": ["image_adapter"], "mix": "m", "adapter": {"width": 8}, "token": {}, "train": {}}
    own = {"like": "like", "weights_of": "like", "refine": {"tau": 0.1}}
    assert with_likes({"like": like | {"refine": {"lead": 0.2}}, "own": own})["own"] == {
        "title": "l",
        "weights_of": "like",
        "refine": {"lead": 0.2, "tau": 0.1},
    }


ROWS = {
    "wide": {"title": "w", "like": "proposed", "token": {"width": 512}, "train": {"epochs": 5}},
    "adapted": {"title": "a", "trains": ["image_adapter"], "mix": "exact", "deviation": {"kind": "edges"}},
    "patient": {"title": "p", "weights_of": "wide", "refine": {"max_iterations": 20}},
}


def test_a_training_has_what_its_row_lays_over_the_sections_and_no_part_that_it_does_not_train() -> None:
    written = config({"models": ROWS})
    wide, adapted = training_of(written, "wide"), training_of(written, "adapted")
    assert (wide.model.token, wide.model.adapter) == (written.token.model_copy(update={"width": 512}), None)
    assert (adapted.model.token, adapted.model.adapter) == (None, written.adapter)
    assert (wide.train.epochs, adapted.train.epochs) == (5, written.train.epochs)
    assert (wide.mix, adapted.mix) == (written.train.mixes["paper"], written.train.mixes["exact"])
    assert (wide.deviation.kind, adapted.deviation.kind) == ("scale", "edges")
    assert training_of(written, "patient") == wide


@pytest.mark.parametrize(("unrolled", "counts"), [(0, False), (1, True)])
def test_only_unrolled_iterations_depend_on_what_the_next_box_is_drawn_around(unrolled: int, counts: bool) -> None:
    plain, largest = (
        config({"train": {"unrolled_iterations": unrolled}, "refine": {"largest_component": value}})
        for value in (False, True)
    )
    assert (training_of(plain, "sam") != training_of(largest, "sam")) == counts


def test_the_audit_knows_whose_weights_a_row_has() -> None:
    written = config({"models": ROWS, "experiment": {"models": ["wide", "patient", "sam"]}})
    rows = audited_rows(written)
    assert {name: row.trained for name, row in rows.items()} == {"wide": "wide", "patient": "wide", "sam": "sam"}
    assert rows["patient"].training == training_of(written, "wide")
    assert {training.model for training in trainings(written)} == {"wide", "sam"}


def test_a_set_has_the_settings_of_its_model_and_its_own() -> None:
    models = {"firm": {"title": "f", "weights_of": "sam", "refine": {"tau": 0.2, "lead": 0.3}}}
    trained = {"dataset": "cells", "model": "firm", "seed": 0}
    of_both = {"images": "i", "boxes": "b", "segment": {"margin": 1, "grey": {"percentiles": [1, 99]}}}
    sets = {"firm": of_both | {"model": trained}, "bare": of_both | {"model": None, "segment": {}}}
    overlay = {"models": models, "predict": sets, "data": "d", "segment": {"grey": {"range": [0, 9]}}}
    made = image_sets(config(overlay))
    assert (made["firm"].images, made["firm"].boxes) == ("d/i", ("d/b",))
    assert (made["firm"].segment.margin, made["bare"].segment.margin) == (1.0, 0.5)
    assert made["firm"].segment.plain()["grey"] == {"percentiles": [1.0, 99.0]}
    assert made["bare"].segment.plain()["grey"] == {"range": [0.0, 9.0]}
    # `segment.refine` of config.yaml lies over what a model says
    assert (made["firm"].refine.tau, made["firm"].refine.lead, made["bare"].refine.tau) == (0.2, 0.15, 0.05)


JOINT_ROWS = {
    "both": {"title": "b", "like": "proposed", "trained_on": {"cells": 1.0, "membranes": 3.0}},
    "loose": {"title": "l", "weights_of": "both", "deviation": {"kind": "edges"}},
}


def test_a_model_of_several_data_sets_is_trained_once_and_tested_on_each() -> None:
    written = config({"models": JOINT_ROWS, "experiment": {"models": ["both", "loose", "sam"]}})
    assert training_sets(written, "joint", "both") == {"cells": 1.0, "membranes": 3.0}
    assert training_sets(written, "mitochondria", "sam") == {"mitochondria": 1.0}
    assert [training for training in trainings(written) if training.dataset == "joint"] == [("joint", "both", 0)]
    for name in ("both", "loose"):
        assert weights_file(written, "mitochondria", name, 0) == "<results>/train/joint/both/0.safetensors"
    assert weights_file(written, "cells", "sam", 0) == "<results>/train/cells/sam/0.safetensors"
    assert training_of(written, "loose").trained_on == {"cells": 1.0, "membranes": 3.0}


def test_a_row_with_the_weights_of_a_file_is_not_trained(tmp_path: Path) -> None:
    model = sam_with_token(tmp_path)
    given = {"title": "g", "file": str(model)}
    written = config(
        {
            "models": {"given": given, "edges": {"title": "e", "like": "given", "deviation": {"kind": "edges"}}},
            "experiment": {"models": ["given", "edges"]},
        }
    )
    assert trainings(written) == []
    assert weights_file(written, "cells", "edges", 0) == str(model)
    assert is_prompt_tuned(written, "edges")
    row = audited_rows(written)["edges"]
    assert (row.training, row.file) == (None, str(model))


def sam_with_token(folder: Path) -> Path:
    """The file of a model with a token, of which only the header is read."""
    header = {"backbone": "micro", "model_config": {"trains": ["deviation_token"], "token": None}, "training": {}}
    save_file({"x": np.zeros(1)}, folder / "model.safetensors", {"loosebox": json.dumps(header)})
    return folder / "model.safetensors"


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"both": JOINT_ROWS["both"] | {"trained_on": {"nowhere": 1.0}}}, "trained_on names 'nowhere'"),
        ({"both": JOINT_ROWS["both"] | {"trained_on": {"cells": 0.0}}}, "models.both.trained_on.cells is 0"),
        (
            {"given": {"title": "g", "file": "nowhere.safetensors"}},
            "models.given.file is 'nowhere.safetensors', but there",
        ),
        ({"sam": {"starts_from": "nowhere"}}, "models.sam.starts_from is 'nowhere', but there is no such file"),
    ],
)
def test_a_joint_or_given_model_that_cannot_be_is_refused(models: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        config({"models": models})
