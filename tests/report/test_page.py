"""The report of a small experiment: its numbers, and how a real browser takes it."""

import re
import shutil
from collections.abc import Iterator
from html import unescape
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest
from helpers.running import SMALL, snakemake
from playwright.sync_api import Browser, Page, sync_playwright

from pipeline_lib.report.charts import CHARTS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here; `make system` installs it on Debian, as root"
)


WIDTHS_OF_IMAGES = """images => Promise.all(images.map(async image => {
    const copy = new Image();
    copy.src = image.href.baseVal;
    await copy.decode();
    return copy.width;
}))"""
COLOURS_OF_TEXT = """texts => texts.map(text => getComputedStyle(text).fill.match(/\\d+/g).slice(0, 3).map(Number))"""


@pytest.fixture(scope="module")
def page_file(finished: Path) -> Path:
    return finished / "results/report.html"


@pytest.fixture(scope="module")
def html(page_file: Path) -> str:
    return page_file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(params=[(1600, "light"), (1600, "dark"), (400, "light"), (400, "dark")], ids=str)
def page(request: pytest.FixtureRequest, browser: Browser, page_file: Path) -> Iterator[Page]:
    """The report from disk; every message to the console and every request is a failure."""
    width, scheme = request.param
    seen: list[str] = []
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        opened = context.new_page()
        opened.on("console", lambda message: seen.append(message.text))
        opened.on("pageerror", lambda error: seen.append(str(error)))
        opened.on("request", lambda request: seen.append(request.url))
        opened.goto(page_file.as_uri())
        yield opened
        assert [url for url in seen if not url.startswith("data:")] == [page_file.as_uri()]


def printed(rows: list[str]) -> list[float]:
    return [float(number) for row in rows for number in re.findall(r"(?<=[ >])\d*\.\d+", row)]


def rounded(figures: pd.Series, decimals: int) -> list[float]:
    """As they are printed, where there are any: NumPy rounds a tie elsewhere than Python's format does."""
    return [float(f"{figure:.{decimals}f}") for figure in figures.dropna()]


def test_page_markdown_and_csv_hold_the_same_figures(finished: Path, html: str) -> None:
    markdown = (finished / "results/tables.md").read_text(encoding="utf-8").split("\n## ")[1:]
    pages = re.findall(r'<table class="miou">.*?</table>', html, flags=re.DOTALL)
    csv = pd.read_csv(finished / "results/tables.csv")
    assert len(pages) == len(markdown) == csv["dataset"].nunique() == 2
    for dataset, text, table in zip(csv["dataset"].unique(), markdown, pages, strict=True):
        in_markdown = printed(next(part for part in text.split("\n\n") if part.startswith("|")).splitlines())
        in_page = printed(re.findall(r'<td class="figure">[^<]*', table))
        own = csv[csv["dataset"] == dataset]
        assert in_page == in_markdown
        # models, without and with iteration: two levels and what is kept; iterations
        assert len(in_page) == 3 * 2 * (2 + 1) + 2
        kept = 100 * own["kept"]
        assert sorted(in_page[:-2]) == sorted([*rounded(own["miou"], 3), *rounded(kept, 1)])
        assert in_page[-2:] == rounded(own.query("model == 'proposed' and iterated")["mean_iterations"], 2)


def test_the_page_gives_the_verdicts_of_the_csv(finished: Path, html: str) -> None:
    row = re.compile(
        r'<b>(C\d)</b> ([^<]*)</td><td><span class="verdict [^"]*"><span [^>]*>.</span> ([^<]*)</span></td>'
        r'<td class="because">([^<]*)</td>'
    )
    claims = pd.read_csv(finished / "results/claims.csv")
    assert len(claims) == 5 * len(SMALL["experiment"]["datasets"])
    shown = [(f"{name} {says}", word, because) for name, says, word, because in row.findall(unescape(html))]
    assert shown == list(claims[["claim", "verdict", "because"]].itertuples(index=False, name=None))


def test_intervals_of_the_page_are_those_of_the_csv(finished: Path, html: str) -> None:
    pages = re.findall(r'<table class="miou">.*?</table>', html, flags=re.DOTALL)
    csv = pd.read_csv(finished / "results/tables.csv")
    for dataset, table in zip(csv["dataset"].unique(), pages, strict=True):
        own = csv[csv["dataset"] == dataset]
        counts = own.query("model == 'proposed' and iterated")
        bounds = [rounded(own[f"miou_{end}"], 3) for end in ("low", "high")]
        bounds += [rounded(counts[f"mean_iterations_{end}"], 2) for end in ("low", "high")]
        intervals = re.findall(r"<small>\[(.*?), (.*?)\]</small>", table)
        assert sorted(float(bound) for ends in intervals for bound in ends) == sorted(chain.from_iterable(bounds))


def test_differences_of_the_page_are_those_of_markdown_and_csv(finished: Path, html: str) -> None:
    markdown = (finished / "results/tables.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in markdown.splitlines() if " − " in line]
    cell = re.compile(r'<td class="figure">([^<]*)<small>([^<]*)</small></td>')
    page = re.findall(r'<tr><th scope="row">([^<]* − [^<]*)</th>(.*?)</tr>', html)
    assert [[name, *(" ".join(parts).strip() for parts in cell.findall(cells))] for name, cells in page] == rows
    csv = pd.read_csv(finished / "results/differences.csv")
    assert len(csv) == 2 * len(rows)  # levels
    in_rows = [float(figure.split()[0]) for row in rows for figure in row[1:]]
    assert sorted(in_rows) == pytest.approx(sorted(csv["gain"]), abs=0.000051)


def test_every_chart_is_in_the_page_and_a_file(finished: Path, html: str) -> None:
    files = {file.name: file.read_text(encoding="utf-8") for file in (finished / "results/figures").glob("*.svg")}
    assert set(files) == {
        f"{dataset}_{chart.name}.svg" for dataset in SMALL["experiment"]["datasets"] for chart in CHARTS
    }
    assert ">Generated cells: the method, with and without K<" in files["cells_method.svg"]
    drawn = re.findall(r"<figcaption>([^<]*)<small>[^<]*</small></figcaption><svg", html)
    assert drawn == [chart.title for chart in CHARTS] * len(SMALL["experiment"]["datasets"])


def test_the_page_is_bounded_and_complete_in_itself(html: str) -> None:
    assert len(html) < 6_000_000
    assert "<script" not in html
    assert re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', html) == []


def test_no_data_set_has_the_id_of_a_section(html: str) -> None:
    """As one that is called run or verdicts would have."""
    assert re.findall(r'<section id="(?!data-)([^"]*)"', html) == ["verdicts", "run"]
    assert len(re.findall(r'<section id="data-[a-z]+"', html)) == 2


def test_ids_are_unique(html: str) -> None:
    ids = re.findall(r'(?<![\w-])id="([^"]+)"', html)
    assert len(ids) == len(set(ids))


def test_snakemakes_own_report_holds_ours(finished: Path, tmp_path: Path) -> None:
    target = tmp_path / "snakemake.html"
    run = snakemake(finished, SMALL, "--report", str(target))
    assert run.returncode == 0, run.stderr[-3000:]
    text = target.read_text(encoding="utf-8")
    assert "report.html" in text
    assert "cells_miou.svg" in text


@in_browser
def test_it_opens_from_disk_without_a_complaint_or_request(page: Page) -> None:
    assert page.title() == "LooseBox: the experiment's report"


@in_browser
def test_it_does_not_scroll_sideways(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


@in_browser
def test_every_figure_can_be_seen_and_has_words(page: Page) -> None:
    page.eval_on_selector_all("details", "all => all.forEach(each => each.open = true)")
    drawings = page.locator("main svg:not(.shared)")
    assert drawings.count() > len(CHARTS) * len(SMALL["experiment"]["datasets"])
    for drawing in drawings.all():
        box = drawing.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) > 20
        assert drawing.get_attribute("aria-label")
    widths = page.eval_on_selector_all("svg image", WIDTHS_OF_IMAGES)
    assert min(widths) > 10


@in_browser
def test_charts_are_drawn_in_colours_of_the_theme(page: Page) -> None:
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    shades = page.eval_on_selector_all(".charts svg text", COLOURS_OF_TEXT)
    assert shades
    for shade in shades:
        assert (min(shade) > 200) if dark else (max(shade) < 60)


@in_browser
def test_all_that_scrolls_or_opens_is_reached_by_the_tab_key(page: Page) -> None:
    wanted = page.locator("a, summary, .scroll").filter(visible=True).count()
    reached = set()
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("[...document.querySelectorAll('*')].indexOf(document.activeElement)"))
    assert len(reached) >= wanted
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("details").first.get_attribute("open") is not None
