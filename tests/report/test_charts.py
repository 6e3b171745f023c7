"""Charts of hand-made tables."""

import re
from dataclasses import replace
from itertools import product
from xml.etree import ElementTree

import pandas as pd
import pytest

from pipeline_lib.data.paths import Cell
from pipeline_lib.evaluation.published import ITERATIONS, LEVELS, MIOU
from pipeline_lib.report.charts import CHARTS, PALETTE, Chart, Results, svg

MODELS = {"sam": "SAM", "proposed": "proposed P"}


def table(axes: dict[str, list], columns: tuple[str, ...]) -> pd.DataFrame:
    """A line for each combination; the columns hold small numbers in the order of theirs."""
    lines = pd.DataFrame(product(*axes.values()), columns=list(axes))
    return lines.assign(**{name: 0.1 * (place + 1) + 0.001 * lines.index for place, name in enumerate(columns)})


def results(published: str | None = None) -> Results:
    """Every table that the charts are drawn from, with band and line."""
    cells = {"model": list(MODELS), "level": list(LEVELS)}
    groups = [("all", "all"), ("size", "64–99"), ("size", "99–200"), ("direction", "too large"), ("border", "inside")]
    grouped = table(
        {**cells, "group": groups},
        ("miou", "miou_iterated", "gain_low", "gain", "gain_high", "worse", "capped", "box_iou"),
    )
    grouped["by"], grouped["group"] = grouped["group"].str[0], grouped["group"].str[1]
    iterations = ("mean_iterations_low", "mean_iterations", "mean_iterations_high")
    gains = table({**cells, "over_model": list(MODELS)}, ("gain_low", "gain", "gain_high"))
    rates = ("change_rate_low", "change_rate", "change_rate_high")
    return Results(
        Cell("cells", "proposed", 0, 40),
        models=MODELS,
        paper=MIOU.get(published, {}),
        paper_iterations=ITERATIONS.get(published, {}),
        tables=table({**cells, "iterated": [False, True]}, ("miou_low", "miou", "miou_high", *iterations)),
        differences=gains,
        groups=grouped,
        changes=table({**cells, "iteration": [1, 2, 3]}, rates).assign(objects=50),
        worst=pd.DataFrame(),
        curves=table({"model": list(MODELS), "seed": [0, 1], "epoch": [0, 1]}, ("train_loss", "validation_miou")),
    )


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_a_chart_is_well_formed_the_same_each_time_and_in_no_fixed_colour(chart: Chart) -> None:
    words, drawn = svg(chart, results("isbi2012"))
    assert svg(chart, results("isbi2012")) == (words, drawn)
    body = ElementTree.fromstring(drawn)
    assert body.get("aria-label") == words
    assert words.startswith(chart.says)
    assert body.get("viewBox")
    style, drawing = drawn.split("</style>", 1)
    assert all(colour in style and dark in style for colour, dark in PALETTE.items())
    assert re.findall(r"#[0-9a-f]{6}", drawing) == []


@pytest.mark.parametrize("name", ["method", "miou", "miou_iterated", "iterations"])
def test_the_papers_curves_are_dashed_where_there_are_any(name: str) -> None:
    chart = next(chart for chart in CHARTS if chart.name == name)
    words, drawn = svg(chart, results("isbi2012"))
    assert words.endswith("; the paper's dashed")
    assert "stroke-dasharray" in drawn
    assert ", paper<" in drawn
    words, alone = svg(chart, results())
    assert "stroke-dasharray" not in alone
    assert "paper" not in words + alone


def test_many_models_have_no_bands_that_hide_each_other() -> None:
    few = results()
    many = replace(few, models=dict.fromkeys(["sam", "proposed", "third", "fourth"], "a model"))
    for chart in (chart for chart in CHARTS if chart.name in ("miou", "gains", "iterations", "loss")):
        words, drawn = svg(chart, few)
        assert "opacity: 0.13" in drawn
        assert words.endswith(chart.bands)
        words, drawn = svg(chart, many)
        assert "opacity: 0.13" not in drawn
        assert words == chart.says


def test_a_chart_without_intervals_says_nothing_of_bands() -> None:
    """As of a single slice."""
    known = results()
    single = replace(known, tables=known.tables.assign(miou_low=float("nan"), miou_high=float("nan")))
    chart = next(chart for chart in CHARTS if chart.name == "miou")
    assert svg(chart, single)[0] == chart.says


def test_a_title_and_long_labels_make_the_chart_higher_and_take_nothing_from_it() -> None:
    small = results()
    wordy = replace(small, models={name: f"{title}, with a setting of its own" for name, title in MODELS.items()})
    chart = next(chart for chart in CHARTS if chart.name == "miou")
    drawn = [
        svg(chart, small)[1],
        svg(chart, wordy)[1],
        svg(chart, small, "ISBI 2012: first masks")[1],
    ]
    heights = [float(ElementTree.fromstring(each).get("viewBox", "").split()[3]) for each in drawn]
    assert heights[0] < min(heights[1:])
    assert "ISBI 2012: first masks</text>" in drawn[2]


def test_a_borrowing_model_has_no_loss_curve() -> None:
    curves = results().curves.query("model == 'sam'")
    loss = next(chart for chart in CHARTS if chart.name == "loss")
    assert "proposed P" not in svg(loss, replace(results(), curves=curves))[1]


def test_a_title_is_shown_as_it_is_written() -> None:
    title = r"cells at $\frac{5$ <each>"  # no formula
    for chart in CHARTS:
        _, drawn = svg(chart, replace(results(), models={"sam": title, "proposed": title}), title)
        ElementTree.fromstring(drawn)
        assert r"cells at $\frac{5$ &lt;each&gt;" in drawn


def test_no_iteration_at_all_makes_an_empty_chart() -> None:
    chart = next(chart for chart in CHARTS if chart.name == "changes")
    known = results()
    _, drawn = svg(chart, replace(known, changes=known.changes.iloc[:0]))
    ElementTree.fromstring(drawn)
