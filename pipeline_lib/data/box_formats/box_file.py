"""Parse a box file once, although several formats look at it."""

import codecs
import csv
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from pipeline_lib.errors import DataError

LISTED = 12  # number of keys or columns that an outline names
SHOWN = 60  # number of characters that an outline shows of a text

DELIMITERS = ";\t,"
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
DECIMAL_POINT = re.compile(r"[+-]?\d+\.\d+")
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class CsvTable(NamedTuple):
    """The columns and rows of a table whose fields are separated by commas, semicolons or tabs."""

    columns: tuple[str, ...]
    """Names in the header, in lower case, without spaces around them."""
    rows: list[tuple[int, dict[str, str | None]]]
    """Line number and texts by column of each row. A text is None if the row is too short. Empty rows are left out."""


@dataclass(frozen=True)
class BoxFile:
    """A file of boxes. Its content is parsed when a format first needs it.

    Each property raises DataError, which names the file, if the file does not have that syntax.
    """

    path: Path

    @cached_property
    def json(self) -> Any:
        """The content of a JSON file."""
        try:
            return json.loads(self.text)
        except ValueError as error:
            raise self._unreadable("JSON", error) from error

    @property
    def json_keys(self) -> set[str]:
        """The keys of the JSON object in the file; empty if the file holds something else."""
        return set(self.json) if isinstance(self.json, dict) else set()

    @property
    def entry_keys(self) -> set[str]:
        """The keys of the first entry of the JSON list in the file; empty if the file holds no list of objects."""
        first = self.json[0] if isinstance(self.json, list) and self.json else None
        return set(first) if isinstance(first, dict) else set()

    @cached_property
    def xml(self) -> ElementTree.Element:
        """The root element of an XML file."""
        try:
            return ElementTree.parse(self.path).getroot()
        except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: an unknown encoding
            raise self._unreadable("XML", error) from error

    @cached_property
    def text(self) -> str:
        """The text of the file: UTF-8, or UTF-16 if it begins with a byte-order mark, or else Windows-1252.

        A wrong guess does no harm: it changes names, and an image with a wrong name is not found.
        """
        content = self.path.read_bytes()
        encoding = next((name for mark, name in MARKS if content.startswith(mark)), "utf-8")
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            if encoding != "utf-8" or b"\0" in content:
                raise self._unreadable("text", error) from error
        try:
            return content.decode("cp1252")
        except UnicodeDecodeError as error:
            raise self._unreadable("text in UTF-8 or Windows-1252", error) from error

    @cached_property
    def lines(self) -> list[str]:
        """The lines of a text file."""
        return self.text.splitlines()

    @cached_property
    def table(self) -> CsvTable:
        """The table of a CSV file with a header. Comments before the header are left out.

        Raises:
            DataError: The file is not a table, or commas in numbers can be decimal commas or separate thousands.
        """
        lines = self.text.splitlines(keepends=True)
        skipped = next((number for number, line in enumerate(lines) if not _is_comment(line)), 0)
        delimiter = max(DELIMITERS, key=(lines[skipped] if lines else "").count)
        try:
            reader = csv.reader(lines[skipped:], delimiter=delimiter, skipinitialspace=True)
            header = next(reader, [])
            cells = [(reader.line_num + skipped, [cell.strip() for cell in row]) for row in reader if any(row)]
        except (csv.Error, ValueError) as error:
            raise self._unreadable("CSV", error) from error
        names = [name.strip().lower() for name in header]
        if delimiter != ",":
            cells = self._with_points(cells)
        rows = [(line, dict(zip(names, [*row, *[None] * len(names)], strict=False))) for line, row in cells if any(row)]
        return CsvTable(tuple(names), rows)

    def _with_points(self, rows: list[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
        """Replace decimal commas by points."""
        cells = [(line, cell) for line, row in rows for cell in row]
        commas = [(line, cell) for line, cell in cells if DECIMAL_COMMA.fullmatch(cell)]
        has_points = any(DECIMAL_POINT.fullmatch(cell) for _, cell in cells)
        if commas and (has_points or all(THOUSANDS.fullmatch(cell) for _, cell in commas)):
            raise DataError(
                f"{self.path}:{commas[0][0]}: the comma in {commas[0][1]} can be a decimal comma or separate "
                "thousands; save the numbers with decimal points and without separators"
            )
        return [
            (line, [cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell) else cell for cell in row])
            for line, row in rows
        ]

    def check_columns(self, names: Iterable[str]) -> None:
        """Refuse a table that has one of the columns `names` twice.

        Raises:
            DataError: A column is there twice. The message names it.
        """
        for name in names:
            if self.table.columns.count(name) > 1:
                raise DataError(f"{self.path}: the column {name!r} is there twice; leave out one of them")

    @cached_property
    def start(self) -> bytes:
        """The first four bytes."""
        with self.path.open("rb") as file:
            return file.read(4)

    def json_outline(self) -> str:
        """Say what a JSON file holds."""
        if isinstance(self.json, dict):
            return f"a JSON object with the keys {_listing(self.json)}"
        if self.entry_keys:
            return f"a JSON list whose first entry has the keys {_listing(self.json[0])}"
        return f"the JSON value {_short(json.dumps(self.json))}"

    def xml_outline(self) -> str:
        """Say what an XML file holds."""
        return f"the XML element <{_short(self.xml.tag)}>"

    def text_outline(self) -> str:
        """Say what a text file holds."""
        return f"a first line {_short(next(filter(str.strip, self.lines), ''))!r}"

    def table_outline(self) -> str:
        """Say what a CSV file holds."""
        return f"the columns {_listing(self.table.columns)} in line 1"

    def bytes_outline(self) -> str:
        """Say what a binary file holds."""
        return f"a file that begins with the bytes {self.start!r}"

    def _unreadable(self, syntax: str, error: Exception) -> DataError:
        return DataError(
            f"{self.path}: cannot be read as {syntax} ({error}). It may be damaged or cut. Export it again"
        )


def _is_comment(line: str) -> bool:
    return not line.strip() or (line.startswith("#") and not line.startswith("#filename"))  # VIA's header


def first_text(row: Mapping[str, str | None], columns: Iterable[str]) -> str:
    """Return the text of a row in the first of `columns` that the table has; empty if it has none."""
    return next((row[column] or "" for column in columns if column in row), "")


def _listing(names: Iterable[str]) -> str:
    texts = [_short(name) for name in names]
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return (", ".join(texts[:LISTED]) or "(none)") + more


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
