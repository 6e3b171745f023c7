"""Write the tables of README, docs and the model's card from docs/figures: `python docs/print_tables.py`.

A document marks the place of a table by `<!-- figures: NAME -->` and `<!-- end -->`, where NAME is a key of `TABLES`.
The script replaces what stands between. It rounds figures and adds the paper's, but computes none.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from math import isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline_lib.evaluation.published import ITERATIONS, MIOU, PAPER_MODELS, PAPER_ROWS, PK, SAM, Row
from pipeline_lib.report.markdown import grid

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs/figures"
PAGES = (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")), ROOT / "pipeline_lib/model/shipped.md")
MARK = re.compile(r"^<!-- figures: (\S+) -->$", re.MULTILINE)
BLOCK = re.compile(MARK.pattern + r"(?:(?!<!--).)*<!-- end -->", re.MULTILINE | re.DOTALL)

DATASETS = {
    "epfl": "EPFL, mitochondria",
    "isbi2012": "ISBI 2012, neurites",
    "vnc": "Drosophila VNC, neurites",
    "cells": "Generated cells",
    "membranes": "Generated membranes, in ISBI 2012's format",
    "mitochondria": "Generated mitochondria, in the EPFL data set's format",
}
MODELS = {  # titles of models; a model without an entry is called by its name
    "sam": "SAM",
    "sam_p": "SAM, corner embeddings",
    "tuned_proposed": "tuned proposed",
    "sam_window": "SAM (masks end at twice the box)",
    "proposed_window": "proposed (masks end at twice the box)",
    "released": "LiteMedSAM as released",
    "shipped": "LooseBox, never trained on it",
}
PROMPT_TUNED = {"sam_p", "proposed", "careful", "loose", "robust"}
KINDS = {"scale": "scaled", "edges": "off edge by edge", "translate": "shifted"}
PUBLISHED = {"epfl": "epfl", "isbi2012": "isbi2012", "vnc": "em"}  # the paper's data set that each one is compared with
ON_FIRST_PAGE = {SAM, PK, *(Row(model, False) for model in ("adapted", "loose"))}
STARTS = {"released": "LiteMedSAM as released", "shipped": "the shipped model"}
FINE_TUNED = "SAM fine-tuned on this data set"

SUBJECT = (  # columns that identify a figure
    *("dataset", "model", "training", "prediction", "masks", "claim", "volume", "boxes", "flag"),
    *("kind", "level", "tile", "labelled_objects", "iterated", "over_model", "over_iterated"),
)

Line = dict[Any, Any]  # of a CSV file
Cell = tuple[tuple[str, ...], str, str]  # label of the row, name of the column, text


def read(name: str, **values: Any) -> list[Line]:
    """Return the lines of `docs/figures/NAME.csv` whose columns have these values.

    Raises:
        ValueError: the file has a name that no table knows, or two lines for one figure.
    """
    path = FIGURES / f"{name}.csv"
    table = pd.read_csv(path, dtype={"level": str, "tile": str})
    check(table, path.relative_to(ROOT))
    for column, value in values.items():
        table = table[table[column] == value]
    return table.to_dict("records")


def check(table: pd.DataFrame, path: Path) -> None:
    """Raise a ValueError if a file that people edit has a wrong name, or two lines for one figure."""
    allowed = {"dataset": DATASETS, "kind": KINDS, "iterated": (True, False), "over_iterated": (True, False)}
    for column in allowed.keys() & set(table.columns):
        for line, value in enumerate(table[column].tolist(), start=2):
            if value not in allowed[column]:
                expected = ", ".join(str(name).lower() for name in allowed[column])
                raise ValueError(f"{path}, line {line}: {column} is {value!r}; expected one of {expected}")
    subject = [column for column in table.columns if column in SUBJECT]
    repeated = table.index[table.duplicated(subject)] + 2
    if len(repeated):
        raise ValueError(f"{path}, line {repeated[0]}: a line before it has the same {', '.join(subject)}; delete one")


def layout(head: Sequence[str], cells: Iterable[Cell]) -> str:
    """Return a Markdown table. Columns of levels come first, in their order. Cells without a figure are blank.

    If a cell has two texts, they are of first masks and of masks with K.
    """
    rows: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for label, column, text in cells:
        rows.setdefault(label, defaultdict(list))[column].append(text)
    names = dict.fromkeys(column for row in rows.values() for column in row)
    columns = sorted(names, key=lambda column: int(column) if column.isdigit() else 100)
    body = ([*label, *(" → ".join(row.get(column, [])) for column in columns)] for label, row in rows.items())
    return grid([[*head, *columns], *body])


def number(figure: float, digits: int = 3, sign: str = "") -> str:
    """Format a figure. With three digits or more, it has no leading zero, as in the paper: .827, or +.827."""
    text = f"{figure:{sign}.{digits}f}"
    return re.sub(r"^([+-]?)0\.", r"\1.", text) if digits >= 3 else text


def with_spread(line: Line, name: str, digits: int = 3, sign: str = "") -> str:
    """Format a figure with its standard deviation over seeds, if there are several: .721 ± .006."""
    sd = line.get(f"{name}_sd", nan)
    return number(line[name], digits, sign) + ("" if isnan(sd) else f" ± {number(sd, digits)}")


def with_interval(line: Line, name: str, digits: int = 3, sign: str = "") -> str:
    """Format a figure with its standard deviation and interval, if it has them: .721 ± .006 [.690, .752]."""
    low, high = line[f"{name}_low"], line[f"{name}_high"]
    interval = "" if isnan(low) else f" [{number(low, digits, sign)}, {number(high, digits, sign)}]"
    return with_spread(line, name, digits, sign) + interval


def title(model: str) -> str:
    """Return the title of a model."""
    return MODELS.get(model, model)


def tick(holds: bool) -> str:
    """Return a tick, or nothing."""
    return "✓" if holds else ""


def paper(figure: float | None, digits: int = 3) -> str:
    """Format the paper's figure, which follows ours in brackets. Return nothing if there is none."""
    return "" if figure is None else f" ({number(figure, digits)})"


def scores(name: str, dataset: str) -> Iterator[tuple[Row, Cell]]:
    """Yield the cells of each row of a data set: the mIoU by level, and the share that is kept at the highest level."""
    for line in read(name, dataset=dataset):
        row = Row(line["model"], line["iterated"])
        if row.model in PAPER_MODELS and row not in PAPER_ROWS:
            continue  # the workflow has it, the paper's table does not
        ours = "" if row in PAPER_ROWS else " (ours)"
        label = (title(row.model) + ours, tick(row.model in PROMPT_TUNED), tick(row.iterated))
        printed = MIOU[PUBLISHED[dataset]].get(row, {})
        yield row, (label, line["level"], with_spread(line, "miou") + paper(printed.get(int(line["level"]))))
        if not isnan(line.get("kept", nan)):
            share = {column: 100 * line[column] for column in ("kept", "kept_sd") if column in line}
            kept = 100 * printed[40] / printed[0] if printed else None
            yield row, (label, "kept, %", with_spread(share, "kept", 1) + paper(kept, 1))


def iterations(dataset: str) -> Iterator[Cell]:
    """Yield the mean number of iterations by level."""
    for line in read("tables", dataset=dataset, model=PK.model, iterated=True):
        printed = ITERATIONS[PUBLISHED[dataset]][int(line["level"])]
        yield ("iterations", "", ""), line["level"], with_spread(line, "mean_iterations", 2) + paper(printed, 2)


def main_table(dataset: str) -> str:
    """Return all rows of a data set."""
    cells = [cell for _, cell in scores("tables", dataset)]
    return layout(("", "P", "K"), [*cells, *iterations(dataset)])


def short() -> str:
    """Return some rows of the three real data sets, for exact boxes and for boxes that are 40 % off."""
    return layout(
        ("", "P", "K"),
        (
            (label, f"{DATASETS[dataset].partition(',')[0]} {level} %", text)
            for dataset in REAL
            for row, (label, level, text) in scores("tables", dataset)
            if row in ON_FIRST_PAGE and level in ("0", "40")
        ),
    )


def other_scores(name: str, dataset: str) -> str:
    """Return the rows of a data set in another experiment."""
    return layout(("", "P", "K"), (cell for _, cell in scores(name, dataset)))


def verdicts(name: str) -> str:
    """Return the verdict on each claim by data set."""
    return layout(("Claim",), (((line["claim"],), DATASETS[line["dataset"]], line["verdict"]) for line in read(name)))


def reasons(dataset: str) -> str:
    """Return the verdicts of a data set with their figures."""
    lines = read("claims", dataset=dataset)
    return grid(
        [("Claim", "Verdict", "Because"), *((line["claim"], line["verdict"], line["because"]) for line in lines)]
    )


def kept() -> str:
    """Return the share of its mIoU that a row keeps at the highest level, for rows with an interval."""
    return layout(
        ("", ""),
        (
            ((DATASETS[line["dataset"]], title(line["model"])), "with K" if line["iterated"] else "first masks", text)
            for line in read("tables")
            if not isnan(line["kept_low"])
            for text in [f"{100 * line['kept']:.1f} % [{100 * line['kept_low']:.1f}, {100 * line['kept_high']:.1f}]"]
        ),
    )


def gains(name: str, dataset: str, digits: int) -> str:
    """Return the differences in mIoU between models by level, with their intervals."""

    def compared(line: Line) -> str:
        k, over_k = (" with K" if line[iterated] else "" for iterated in ("iterated", "over_iterated"))
        return f"{title(line['model'])}{k} − {title(line['over_model'])}{over_k}"

    return layout(
        ("", "seeds"),
        (
            ((compared(line), str(line["seeds"])), line["level"], with_interval(line, "gain", digits, "+"))
            for line in read(name, dataset=dataset)
        ),
    )


def unseen() -> str:
    """Return the mIoU of first masks on data that the shipped model has not seen, for scaled boxes."""
    cells = []
    for dataset in dict.fromkeys(line["dataset"] for line in read("unseen")):
        for line in read("unseen", dataset=dataset, kind="scale", iterated=False):
            bold = "**" if line["model"] == "shipped" else ""
            label = (DATASETS[dataset], f"{bold}{unseen_title(line['model'])}{bold}")
            cells.append((label, line["level"], f"{bold}{number(line['miou'])}{bold}"))
    return layout(("data set", "model"), cells)


def unseen_kinds() -> str:
    """Return all figures of unseen data: each kind of deviation, first masks and with K, with intervals."""
    return layout(
        ("data set", "model", "boxes", "K"),
        (
            (
                (DATASETS[line["dataset"]], unseen_title(line["model"]), KINDS[line["kind"]], tick(line["iterated"])),
                line["level"],
                with_interval(line, "miou"),
            )
            for line in read("unseen")
        ),
    )


def unseen_differences() -> str:
    """Return the paired difference in mIoU between the shipped model and each other model."""
    return layout(
        ("data set", "above"),
        (
            ((DATASETS[line["dataset"]], unseen_title(line["over_model"])), line["level"], with_interval(line, "gain"))
            for line in read("unseen-differences")
        ),
    )


def unseen_title(model: str) -> str:
    """Return the title of a model in a table of unseen data. Only SAM was fine-tuned on the data set."""
    return FINE_TUNED if model == SAM.model else title(model)


def labels() -> str:
    """Return the mIoU of first masks by data set, start and number of labelled objects."""
    return layout(
        ("data set", "starts from", "objects"),
        (
            ((DATASETS[line["dataset"]], STARTS[line["model"]], str(line["labelled_objects"])), line["level"], text)
            for line in read("labels")
            for text in [with_interval(line, "miou")]
        ),
    )


def box_kinds(dataset: str) -> str:
    """Return the mIoU by kind and level of deviation, with the mean IoU of deviated and exact boxes if it is known."""

    def column(line: Line) -> str:
        overlap = "" if isnan(line["box_iou"]) else f" ({number(line['box_iou'], 2)})"
        return f"{KINDS[line['kind']]} {line['level']}{overlap}"

    return layout(
        ("",),
        (((title(line["model"]),), column(line), number(line["miou"])) for line in read("box-kinds", dataset=dataset)),
    )


def by(name: str, row: str, columns: Sequence[str], figure: str = "miou", digits: int = 3) -> str:
    """Return a table of one figure of a CSV file.

    Args:
        name: name of the file.
        row: column of the file whose values are the rows.
        columns: columns of the file whose values, joined, are the columns.
        figure: column of the figure.
        digits: number of digits.
    """

    def column(line: Line) -> str:
        return ", ".join(DATASETS.get(line[each], str(line[each])).partition(",")[0] for each in columns)

    return layout(("",), (((line[row],), column(line), number(line[figure], digits)) for line in read(name)))


def embedded() -> str:
    """Return the data sets of the embedded experiment: mIoU without and with K, what K changes, and iterations."""
    scored, counted = [], []
    for line in read("embedded"):
        label = (DATASETS[line["dataset"]], str(line["objects"]))
        scored.append((label, f"mIoU at {line['level']} %", number(line["miou"])))
        if line["iterated"]:
            scored.append((label, f"K changes at {line['level']} %", with_interval(line, "gain", 4, "+")))
            counted.append((label, "iterations", number(line["mean_iterations"], 2)))
    return layout(("data set", "objects"), scored + counted)


def devices() -> str:
    """Return how much the mIoU of masks from a GPU differs from that of masks from a processor."""
    head = ("", "mean difference", "largest difference", "seeds differ by")
    digits = {"mean_difference": 4, "largest_difference": 4, "seeds_differ_by": 3}
    lines = ([line["masks"], *(number(line[column], digits[column]) for column in digits)] for line in read("gpu"))
    return grid([head, *lines])


def volumes() -> str:
    """Return the mean 3-D IoU of tracks by volume, kind of box and way."""
    return layout(
        ("volume", "objects", "boxes"),
        (
            ((line["volume"], str(line["objects"]), line["boxes"]), line["masks"], number(line["iou"]))
            for line in read("volumes")
        ),
    )


def flags() -> str:
    """Return how many masks and how many poor masks the flags of `predict` find."""
    head = ("a mask is flagged if it has", "masks flagged", "poor masks found", "poor among the flagged")
    shares = ("flagged", "found", "precision")
    return grid(
        [
            head,
            *([line["flag"], *(f"{line[share]:.0%}".replace("%", " %") for share in shares)] for line in read("flags")),
        ]
    )


def windows() -> str:
    """Return the mIoU in windows and in tiles, and their difference."""
    head = ("boxes off by", "mean IoU in whole slices", "in tiles", "difference, 95 % interval over objects")
    lines = (
        [
            f"{line['level']} %",
            number(line["miou_windows"]),
            number(line["miou_tiles"]),
            f"{number(line['difference'], sign='+')} ± {number(line['half_width'])}",
        ]
        for line in read("windows")
    )
    return grid([head, *lines])


REAL = ("epfl", "isbi2012", "vnc")
TABLES: dict[str, Callable[[], str]] = {
    "unseen": unseen,
    "unseen-kinds": unseen_kinds,
    "unseen-differences": unseen_differences,
    "labels": labels,
    "short": short,
    "verdicts": partial(verdicts, "claims"),
    **{dataset: partial(main_table, dataset) for dataset in REAL},
    **{f"{dataset}-claims": partial(reasons, dataset) for dataset in REAL},
    **{f"{dataset}-gains": partial(gains, "differences", dataset, 3) for dataset in REAL},
    **{f"{dataset}-all-objects": partial(other_scores, "all-objects", dataset) for dataset in REAL},
    **{f"{dataset}-less-training": partial(other_scores, "less-training", dataset) for dataset in REAL},
    **{f"{dataset}-box-kinds": partial(box_kinds, dataset) for dataset in REAL},
    "all-objects-claims": partial(verdicts, "all-objects-claims"),
    "less-training-claims": partial(verdicts, "less-training-claims"),
    "kept": kept,
    "folds": partial(other_scores, "folds", "isbi2012"),
    "folds-differences": partial(gains, "folds-differences", "isbi2012", 4),
    "mask-extent": partial(gains, "mask-extent", "isbi2012", 4),
    "mask-extent-seconds": partial(by, "mask-extent-seconds", "masks", ["level"], "cpu_seconds", 1),
    "ensemble": partial(by, "ensemble", "prediction", ["dataset", "level"]),
    "tokens": partial(by, "tokens", "training", ["level"]),
    "tiles": partial(by, "tiles", "training", ["dataset", "tile"]),
    "validation": partial(by, "validation", "training", ["dataset"]),
    "choices": partial(by, "choices", "training", ["dataset", "level"]),
    "exact-boxes": partial(by, "exact-boxes", "training", ["level"]),
    "embedded": embedded,
    "volumes": volumes,
    "flags": flags,
    "windows": windows,
    "gpu": devices,
}


def filled(text: str) -> str:
    """Return a document with all of its tables replaced.

    Raises:
        ValueError: a mark has no end, or there is no table of its name.
    """

    def block(mark: re.Match[str]) -> str:
        name = mark[1]
        if name not in TABLES:
            raise ValueError(f"<!-- figures: {name} -->: there is no such table; use one of {', '.join(TABLES)}")
        return f"<!-- figures: {name} -->\n\n{TABLES[name]()}\n\n<!-- end -->"

    printed, count = BLOCK.subn(block, text)
    if count != len(MARK.findall(text)):
        raise ValueError("a `<!-- figures: NAME -->` has no `<!-- end -->` after it; add one where the table ends")
    return printed


if __name__ == "__main__":
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        try:
            printed = filled(text)
        except ValueError as error:
            raise SystemExit(f"{page.relative_to(ROOT)}: {error}") from error
        if printed != text:
            page.write_text(printed, encoding="utf-8")
            print(page.relative_to(ROOT))
