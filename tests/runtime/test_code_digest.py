"""What changes the digest of the code that a stage runs, and what does not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline_lib.runtime import code_digest as digests
from pipeline_lib.runtime.code_digest import closure, code_digest

LIBRARY = digests.LIBRARY


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the library, to be edited."""
    copy = tmp_path / "pipeline_lib"
    shutil.copytree(LIBRARY, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digests, "LIBRARY", copy)
    return copy


@pytest.fixture
def changed(library: Path) -> Callable[[str, str, str, str], bool]:
    """Whether a stage's digest changes with an edit of a file."""

    def edit(stage: str, file: str, old: str, new: str) -> bool:
        before = code_digest(f"pipeline_lib.stages.{stage}")
        text = (library / file).read_text()
        assert old in text
        (library / file).write_text(text.replace(old, new, 1))
        digests.read.cache_clear()
        return code_digest(f"pipeline_lib.stages.{stage}") != before

    return edit


ENDING = "    last = history[-1]\n    if not last.mask.any():"


@pytest.mark.parametrize(
    ("stage", "runs_it"), [("refine", True), ("train", False), ("score", False), ("report", False)]
)
def test_a_line_of_the_iteration_is_code_of_refine_alone(changed, stage: str, runs_it: bool) -> None:
    assert (
        changed(stage, "inference/iterate.py", ENDING, "    last = history[0]\n    if not last.mask.any():") == runs_it
    )


@pytest.mark.parametrize(
    "new",
    [
        "    last = history[-1]  # of any length\n    if not last.mask.any():",
        "    last = history[-1]\n\n\n    if not (last.mask.any()):",
        "    last = history[\n        -1\n    ]\n    if not last.mask.any():",
    ],
)
def test_comments_and_layout_do_not_count(changed, new: str) -> None:
    assert not changed("refine", "inference/iterate.py", ENDING, new)


def test_docstrings_do_not_count(changed) -> None:
    assert not changed("refine", "inference/iterate.py", '"""Iterate inference (K)', '"""Iterated inference, called K')


def test_docstrings_of_attributes_do_not_count_but_types_do(changed) -> None:
    assert not changed("refine", "settings/inference.py", "Largest change rate", "The largest change rate")
    assert changed("refine", "settings/inference.py", "    tau: Share", "    tau: Amount")


def test_what_a_module_imports_at_any_depth_is_its_code(changed, library: Path) -> None:
    assert library / "data/masks.py" in closure("pipeline_lib.stages.refine")
    assert changed("refine", "runtime/hashing.py", "digest_size=16", "digest_size=17")


def test_the_pages_template_is_code_of_the_report_alone(changed) -> None:
    assert changed("report", "report/report.html.j2", "<title>LooseBox", "<title>Loose Box")
    assert changed("report", "report/style.css", "body {", "body  {")
    assert not changed("tables", "report/style.css", "body  {", "body {")
    assert not changed("tables", "report/report.html.j2", "<title>Loose Box", "<title>LooseBox")


def test_shipped_weights_are_code_of_what_loads_them(library: Path) -> None:
    before = [code_digest(f"pipeline_lib.stages.{stage}") for stage in ("weights", "score")]
    with (library / "model/micro.safetensors").open("ab") as file:
        file.write(b"more")
    digests.read.cache_clear()
    weights, score = (code_digest(f"pipeline_lib.stages.{stage}") for stage in ("weights", "score"))
    assert weights != before[0]
    assert score == before[1]
