"""Whatever is written into a config, an image, a file of boxes or a journal: the project's own errors, or none.

`LOOSEBOX_EXAMPLES=5000 python -m pytest tests/faults/test_fuzz.py` looks longer.
"""

import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
import zarr
from helpers.box_writers import WRITERS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline_lib.config.defaults import default_config
from pipeline_lib.config.files import check_files
from pipeline_lib.config.folds import with_folds
from pipeline_lib.config.overlays import merged
from pipeline_lib.config.read import read_config
from pipeline_lib.config.rows import audited_rows, cell_axes, printed, shown_axes, tables_config, trainings
from pipeline_lib.config.sets import image_sets, within_data
from pipeline_lib.data.box_checks import checked_boxes
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.table import read_box_files
from pipeline_lib.data.readers import check_whole, open_stack
from pipeline_lib.errors import DataError
from pipeline_lib.runtime.journal import Journal

EXAMPLES = int(os.environ.get("LOOSEBOX_EXAMPLES", "100"))  # of each test
OFTEN = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
STACK = np.random.default_rng(0).integers(0, 256, (3, 16, 24), np.uint8)
SHAPES = {"a.png": (1, 60, 90)}


def accepted(call: Callable[[], object]) -> bool:
    """Whether a call works or else refuses with an error of the project's own; any other one fails the test."""
    try:
        call()
    except DataError:
        return False
    return True


# A config

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["cells"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner), max_leaves=4
)


def places_of(part: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to each entry of a config."""
    entries = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    found = [(*path, key) for key, _ in entries]
    return found + [place for key in found for place in places_of(part[key[-1]], key)]


LAID = {
    "datasets": {"cells": {"folds": 4}},
    "segment": {"grey": {"range": [0, 9]}},
    "models": {
        "borrowed": {"title": "b", "weights_of": "sam", "refine": {"tau": 0.1}},
        "wide": {"title": "w", "like": "proposed", "token": {"width": 512}, "train": {"epochs": 3}},
    },
    "predict": {
        "mine": {
            "images": "i",
            "boxes": ["b"],
            "model": {"dataset": "membranes", "model": "borrowed", "seed": 0},
            "segment": {"margin": 1, "refine": {"lead": 0.1}},
        }
    },
}
CONFIG = merged(default_config(), LAID)
PLACES = places_of(CONFIG)


def checked(plain: dict[str, Any]) -> None:
    """What the workflow does with a config before it makes rules of it."""
    written = read_config(plain)
    config = with_folds(written)
    within_data(config), image_sets(config), tables_config(written), audited_rows(config), printed(written)
    cell_axes(config), trainings(config), shown_axes(config)


def test_the_default_config_is_accepted() -> None:
    assert accepted(lambda: checked(deepcopy(CONFIG)))


@OFTEN
@given(st.sampled_from(PLACES), VALUES, st.booleans())
def test_a_config_with_any_value_anywhere(place: tuple[Any, ...], value: Any, removed: bool) -> None:
    config = deepcopy(CONFIG)
    holder: Any = config
    for key in place[:-1]:
        holder = holder[key]
    if removed and isinstance(holder, dict) and len(place) > 1:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    accepted(lambda: checked(config))


@OFTEN
@given(st.binary(max_size=60) | st.text(alphabet="ab:[]{}&*-,\n #!|>'\"", max_size=60).map(str.encode))
def test_a_config_file_of_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.mktemp("config") / "overlay.yaml"
    file.write_bytes(content)
    accepted(lambda: check_files([file]))


# Files that people bring: good ones in which bytes were changed, put in or cut off


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    where, content = draw(st.floats(0, 1)), draw(st.binary(min_size=1, max_size=8))
    kind = draw(st.sampled_from(["flip", "put in", "cut off", "cut out"]))

    def damage(good: bytes) -> bytes:
        at = int(where * len(good))
        match kind:
            case "flip":
                return good[:at] + content + good[at + len(content) :]
            case "put in":
                return good[:at] + content + good[at:]
            case "cut off":
                return good[:at]
        return good[:at] + good[at + 7 * len(content) :]

    return damage


def as_tiff(folder: Path) -> str:
    tifffile.imwrite(folder / "stack.tif", STACK, photometric="minisblack", compression="zlib")
    return str(folder / "stack.tif")


def as_png(folder: Path) -> str:
    iio.imwrite(folder / "slice.png", STACK[0])
    return str(folder / "slice.png")


def as_hdf5(folder: Path) -> str:
    with h5py.File(folder / "stack.h5", "w") as file:
        file["raw"] = STACK
    return f"{folder / 'stack.h5'}:raw"


def as_zarr(folder: Path) -> str:
    zarr.create_array(folder / "stack.zarr", data=STACK, chunks=(1, 16, 24), config={"write_empty_chunks": True})
    return str(folder / "stack.zarr")


@pytest.fixture(scope="module", params=[as_tiff, as_png, as_hdf5, as_zarr])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("stack")
    return folder, request.param(folder)


@OFTEN
@given(damage=damages(), part=st.integers(0, 3))
def test_a_stack_with_any_damage(stack: tuple[Path, str], damage: Callable[[bytes], bytes], part: int) -> None:
    folder, path = stack
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    file = files[part % len(files)]
    good = file.read_bytes()
    file.write_bytes(damage(good))
    try:
        if accepted(lambda: check_whole(path)) and accepted(lambda: open_stack(path)):
            opened = open_stack(path)
            assert opened.ndim == 3
            if opened.size < 1e6 and accepted(opened.compute):
                assert opened.compute().shape == opened.shape
    finally:
        file.write_bytes(good)


@pytest.fixture(scope="module")
def box_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    boxes = [(0, 0, 9, 9), (3, 5, 20, 60), (70, 2, 90, 59)]
    return {name: WRITERS[name](tmp_path_factory.mktemp(name), "a.png", (60, 90), boxes) for name in DAMAGED}


DAMAGED = [name for name in WRITERS if name != "napari"]  # whose writer starts napari


@settings(OFTEN, max_examples=5 * EXAMPLES)
@given(name=st.sampled_from(DAMAGED), damage=damages())
def test_boxes_with_any_damage(box_files: dict[str, Path], name: str, damage: Callable[[bytes], bytes]) -> None:
    path = box_files[name]
    files = sorted(file for file in ([path] if path.is_file() else path.iterdir()) if file.name != "classes.txt")
    good = files[0].read_bytes()
    files[0].write_bytes(damage(good))
    try:
        if accepted(lambda: read_box_files([path], Images(SHAPES), None)):
            table = read_box_files([path], Images(SHAPES), None)
            if accepted(lambda: checked_boxes(table, SHAPES, "skip")):
                kept = checked_boxes(table, SHAPES, "skip").query("reason == ''")
                corners = kept[["x0", "y0", "x1", "y1"]].to_numpy()
                assert np.isfinite(corners).all()
                assert (corners[:, 2:] > corners[:, :2]).all()
    finally:
        files[0].write_bytes(good)


@OFTEN
@given(damage=damages())
def test_a_journal_with_any_damage(tmp_path_factory: pytest.TempPathFactory, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal"
    with Journal(path, "key") as journal:
        for piece in ({"rows": [1, 2]}, "second", [3.5]):
            journal.add(piece)
    path.write_bytes(damage(path.read_bytes()))
    with Journal(path, "key") as journal:
        assert len(list(journal)) == len(journal) <= 4
        journal.add("last")
    with Journal(path, "key") as journal:
        assert list(journal)[-1] == "last"
    shutil.rmtree(path.parent)
