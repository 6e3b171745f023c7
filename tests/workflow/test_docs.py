"""The documents' links and paths lead somewhere, and the first page stays short."""

import ast
import re
import runpy
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from helpers.running import ROOT

PAGES = sorted(
    page.relative_to(ROOT)
    for page in (
        *(
            ROOT / name
            for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "experiments/ready/README.md")
        ),
        *ROOT.glob("docs/**/*.md"),
    )
)
WORDS = {"README.md": 900, "docs/results.md": 1000}  # at most, beside code, tables and tags
TABLES = runpy.run_path(str(ROOT / "docs/print_tables.py"))

FENCE = re.compile(r"^ *(```|~~~).*?^ *\1 *$", re.MULTILINE | re.DOTALL)
TAG = re.compile(r"<[^>]*>")
LINK = re.compile(r"\]\(([^)\s]+)\)")
SOURCE = re.compile(r"(?:src|srcset|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
# A name of one of our files; one with a placeholder such as NAME.py is none.
NAMED = re.compile(r"(?<![\w/.-])((?:experiments|pipeline_lib|tests|workflow|slurm)/[\w/-]+\.(?:yaml|py|smk))")


def without_code(text: str) -> str:
    """A page without its blocks of code."""
    return FENCE.sub("", text)


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    seen: Counter[str] = Counter()
    found = set()
    for heading in HEADING.findall(without_code(text)):
        words = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # a link counts as its text
        slug = re.sub(r"[^\w\- ]", "", words.strip().lower()).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def links(text: str) -> list[str]:
    """What a page links to or shows, but for other sites."""
    prose = without_code(text)
    return [link for link in LINK.findall(prose) + SOURCE.findall(prose) if not re.match(r"[a-z]+:", link)]


def broken_links(page: Path, text: str) -> list[str]:
    """The links of a page that lead nowhere."""
    broken = []
    for link in links(text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    return broken


def words_of(text: str) -> int:
    """How many words of prose a page has."""
    lines = [line for line in without_code(text).splitlines() if not line.startswith("|")]
    prose = TAG.sub(" ", "\n".join(lines))
    prose = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", prose)
    return len([word for word in prose.split() if re.search(r"\w", word)])


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken_links(ROOT / page, (ROOT / page).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = set(NAMED.findall((ROOT / page).read_text(encoding="utf-8")))
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


def messages() -> list[str]:
    """All texts in the library's code and the names of its classes, without docstrings. `…` stands for a value."""
    texts = []
    for file in ROOT.glob("pipeline_lib/**/*.py"):
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                texts.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                texts.append(node.value)
            elif isinstance(node, ast.ClassDef):
                texts.append(node.name)
    return texts


def test_every_message_on_the_page_of_errors_is_in_the_code() -> None:
    page, texts = (ROOT / "docs/errors.md").read_text(encoding="utf-8"), messages()
    quoted = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    assert len(quoted) > 30
    patterns = {message: re.compile(".*".join(map(re.escape, message.split("…"))), re.DOTALL) for message in quoted}
    assert [message for message, pattern in patterns.items() if not any(map(pattern.search, texts))] == []


def test_every_page_is_in_the_index() -> None:
    listed = set(LINK.findall((ROOT / "docs/README.md").read_text(encoding="utf-8")))
    assert {page.name for page in PAGES if page.parent.name == "docs"} - {"README.md"} <= listed


@pytest.mark.parametrize("page", ["predict", "formats", "outputs"])
def test_a_page_on_own_images_is_read_in_one_sitting(page: str) -> None:
    assert words_of((ROOT / f"docs/{page}.md").read_text(encoding="utf-8")) <= 1500


@pytest.mark.parametrize("page", WORDS)
def test_a_page_is_short(page: str) -> None:
    assert words_of((ROOT / page).read_text(encoding="utf-8")) <= WORDS[page]


def test_every_experiment_has_a_page_of_four_parts_in_the_list() -> None:
    listed = set(LINK.findall((ROOT / "docs/results.md").read_text(encoding="utf-8")))
    for page in ROOT.glob("docs/experiments/*.md"):
        assert f"experiments/{page.name}" in listed
        parts = re.findall(r"^## (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert parts == ["Question", "Command", "Table", "Answer"], page.name


@pytest.mark.parametrize("page", TABLES["PAGES"], ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_what_the_figures_say(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == TABLES["filled"](text), "run `python docs/print_tables.py`"


def test_a_changed_figure_is_found() -> None:
    text = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    assert ".897" in text
    assert TABLES["filled"](text.replace(".897", ".898")) == text


def test_every_file_of_figures_is_printed_and_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    read, opened = pd.read_csv, set()
    monkeypatch.setattr(pd, "read_csv", lambda path, **options: opened.add(path) or read(path, **options))
    for table in TABLES["TABLES"].values():
        table()
    assert opened == set(ROOT.glob("docs/figures/*.csv"))
    listed = (ROOT / "docs/figures/README.md").read_text(encoding="utf-8")
    assert [file.name for file in opened if f"`{file.name}`" not in listed] == []


def test_every_table_is_in_a_document() -> None:
    printed = "".join(page.read_text(encoding="utf-8") for page in TABLES["PAGES"])
    assert set(TABLES["TABLES"]) == set(TABLES["MARK"].findall(printed))


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("epfl,shipped,scaled,0,false", "line 3: kind is 'scaled'; expected one of scale, edges, translate"),
        ("epfl,shipped,scale,0,", "line 3: iterated is nan; expected one of true, false"),
        ("epfl,shipped,scale,0,false", "line 3: a line before it has the same dataset, model, kind, level, iterated"),
    ],
)
def test_a_wrong_line_of_figures_is_refused(tmp_path: Path, line: str, error: str) -> None:
    file = tmp_path / "unseen.csv"
    file.write_text(f"dataset,model,kind,level,iterated\nepfl,shipped,scale,0,false\n{line}\n")
    with pytest.raises(ValueError, match=error):
        TABLES["check"](pd.read_csv(file), file)


def test_a_mark_that_is_wrong_is_refused() -> None:
    with pytest.raises(ValueError, match="no such table"):
        TABLES["filled"]("<!-- figures: unsen -->\n<!-- end -->\n")
    with pytest.raises(ValueError, match="no `<!-- end -->`"):
        TABLES["filled"]("<!-- figures: unseen -->\n<!-- figures: epfl -->\n<!-- end -->\n")


def test_a_planted_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    (tmp_path / "other.md").write_text("# A `b`: c, d\n\n## Twice\n\n## Twice\n")
    text = (
        "# Here\n[](other.md#a-b-c-d) [](other.md#twice-1) [](#here) [](https://example.org/x)\n"
        '[](nowhere.md) [](other.md#twice-2) [](#there)\n<img src="gone.svg">\n```\n[](code.md)\n```\n'
    )
    page.write_text(text)
    assert broken_links(page, text) == ["nowhere.md", "other.md#twice-2", "#there", "gone.svg"]


def test_a_page_holds_no_path_of_one_machine() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert not re.search(r"\.\./shared|/root/|/home/", text), page


def test_the_drawing_is_what_its_script_draws() -> None:
    script = runpy.run_path(str(ROOT / "docs/draw_method.py"))
    for theme in ("light", "dark"):
        drawn = (ROOT / f"docs/method-{theme}.svg").read_text(encoding="utf-8")
        assert drawn == script["method"](script[theme.upper()])


def test_every_experiment_is_in_the_list() -> None:
    listed = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    files = [str(file.relative_to(ROOT)) for file in ROOT.glob("experiments/**/*.yaml")]
    assert [file for file in files if f"[{file}](../{file})" not in listed] == []
