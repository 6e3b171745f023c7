"""Settings, help of the command, rules and documents name the formats that the tables list."""

import inspect
import re
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.box_writers import WRITERS
from helpers.running import ROOT

from pipeline_lib.cli import main, predict_command
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.table import FORMATS, NAMES, READABLE, read_box_files
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.mask_formats import table as mask_formats
from pipeline_lib.settings.segment import BoxFormatName, OutlineForm
from pipeline_lib.stages.collect import collect

BOXES = [(0, 0, 1, 1), (3, 5, 20, 60), (70, 2, 90, 59)]
TOOLS = {  # of the table of tools: the writers of files in the form that each writes
    "labelme, X-AnyLabeling": ("labelme",),
    "LabelMe on the web": ("labelme_web",),
    "CVAT": ("cvat",),
    "CVAT, tracks": ("cvat_video",),
    "Label Studio": ("label_studio", "label_studio_min", "label_studio_csv"),
    "VGG Image Annotator 1, 2": ("via", "via_csv"),
    "VGG Image Annotator 3": ("via_3",),
    "labelImg": ("voc", "yolo"),
    "make-sense": ("make_sense",),
    "Ultralytics YOLO": ("yolo", "polygons"),
    "YOLOv5 in Python": ("yolov5",),
    "Roboflow inference": ("roboflow",),
    "MMDetection, Detectron2": ("results_with_data_set",),
    "Fiji, ROI manager": ("fiji",),
    "Fiji, Results table": ("fiji_table",),
    "napari": ("napari",),
    "QuPath": ("geojson",),
    "scikit-image": ("regionprops",),
    "CellProfiler": ("cellprofiler",),
    "MATLAB": ("matlab",),
    "spreadsheets": ("xyxy",),
}
PAGES = "".join((ROOT / f"docs/{page}.md").read_text(encoding="utf-8") for page in ("formats", "outputs"))
NO_MASKS = {"objects.csv", "summary.csv", "predict.html"}  # outputs that are no masks


def section(title: str) -> str:
    """Return the text of a section of the pages."""
    return PAGES.split(f"\n## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of the tables in a text, without headings."""
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    lines = [line for table in tables for line in table.splitlines()[2:]]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def suffixes(cell: str) -> tuple[str, ...]:
    """Return the suffixes that a cell names."""
    return tuple(re.findall(r"`(\.\w+)`", cell))


def test_the_settings_list_the_names_of_the_formats() -> None:
    assert get_args(BoxFormatName) == tuple(NAMES)


def test_the_command_offers_the_formats_and_its_help_explains_them() -> None:
    (option,) = (each for each in predict_command.params if each.name == "form")
    assert list(getattr(option.type, "choices", ())) == list(NAMES)
    shown = " ".join(CliRunner().invoke(main, ["predict", "--help"], terminal_width=10_000).output.split())
    assert [each.title for each in READABLE if each.title not in shown] == []


def test_the_page_lists_the_tools() -> None:
    assert [tool for tool, *_ in rows(section("From your tool"))] == list(TOOLS)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_file_of_each_tool_on_the_page_is_read(tmp_path: Path, tool: str) -> None:
    for writer in TOOLS[tool]:
        path = WRITERS[writer](tmp_path / writer, "a.png", (60, 90), BOXES)
        table = read_box_files([path], Images({"a.png": (1, 60, 90), "b.tif": (3, 40, 50)}), None)
        np.testing.assert_allclose(table[XYXY].to_numpy(), BOXES, atol=1e-9)
        assert set(table["image"]) == {"a.png"}


def test_the_page_lists_the_formats_that_can_be_read() -> None:
    documented = [row for row in rows(section("Boxes")) if len(row) == 6]
    table = [(each.title, each.program, f"`{each.name}`", each.suffixes) for each in READABLE]
    assert [(title, program, name, suffixes(files)) for title, program, name, files, *_ in documented] == table


def test_the_page_lists_the_formats_that_are_only_recognised() -> None:
    documented = [row for row in rows(section("Boxes")) if len(row) == 3]
    table = [(each.title, each.suffixes, each.instead) for each in FORMATS if each.read is None]
    assert [(title, suffixes(files), instead) for title, files, instead in documented] == table


def test_the_page_lists_the_outputs_of_predict() -> None:
    documented = dict(re.findall(r"^- `([^`/]+)/?`(.*(?:\n  .*)*)", section("What comes out"), re.MULTILINE))
    assert set(documented) == {each.file for each in mask_formats.FORMATS} | NO_MASKS
    assert [each.name for each in mask_formats.FORMATS if each.program not in documented[each.file]] == []


def test_stage_and_rule_write_each_output_of_the_table() -> None:
    rules = (ROOT / "workflow/rules/predict.smk").read_text()
    for each in mask_formats.FROM_MASKS:
        assert each.name in inspect.signature(collect).parameters
        assert re.search(rf'\b{each.name}=\S*"<results>/collect/{{set}}/{re.escape(each.file)}"', rules)


def test_the_settings_and_the_command_know_each_form_of_outlines() -> None:
    names = [each.name for each in mask_formats.OUTLINES]
    assert list(get_args(OutlineForm)) == names == [each.file for each in mask_formats.OUTLINES]
    assert set(names) <= {each.name for each in predict_command.params}


def test_a_format_says_what_can_be_done_with_it() -> None:
    def complete(each: BoxFormat) -> bool:
        return (each.read is None) == bool(each.instead) and bool(each.content and each.program and each.suffixes)

    assert [each.title for each in FORMATS if not complete(each)] == []
    assert len({each.title for each in FORMATS}) == len(FORMATS)
