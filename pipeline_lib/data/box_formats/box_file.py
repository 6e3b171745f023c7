"""A box file that is parsed once, however many formats look at it."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from pipeline_lib.errors import DataError

LISTED = 12  # keys or columns that an outline names
SHOWN = 60  # characters of a text that an outline shows


class CsvTable(NamedTuple):
    """The columns and rows of a CSV file."""

    columns: tuple[str, ...]
    """Names in the header, in lower case and without spaces around them."""
    rows: list[tuple[int, dict[str, str | None]]]
    """The line number of each row, and its texts by column; None if the row is too short."""


@dataclass(frozen=True)
class BoxFile:
    """A file whose content is parsed when a format first asks for it.

    Each property raises DataError, which names the file, if the file is not of that syntax.
    """

    path: Path

    @cached_property
    def json(self) -> Any:
        """The content of a JSON file."""
        try:
            return json.loads(self.path.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise self._unreadable("JSON", error) from error

    @property
    def json_keys(self) -> set[str]:
        """The keys of a JSON object; empty if the file holds no object."""
        return set(self.json) if isinstance(self.json, dict) else set()

    @property
    def entry_keys(self) -> set[str]:
        """The keys of the first entry of a JSON list; empty if the file holds no list, or one without objects."""
        first = self.json[0] if isinstance(self.json, list) and self.json else None
        return set(first) if isinstance(first, dict) else set()

    @cached_property
    def xml(self) -> ElementTree.Element:
        """The root element of an XML file."""
        try:
            return ElementTree.parse(self.path).getroot()
        except (ElementTree.ParseError, ValueError, LookupError) as error:  # LookupError: of an unknown encoding
            raise self._unreadable("XML", error) from error

    @cached_property
    def lines(self) -> list[str]:
        """The lines of a text file."""
        try:
            return self.path.read_text(encoding="utf-8-sig").splitlines()
        except ValueError as error:
            raise self._unreadable("text", error) from error

    @cached_property
    def table(self) -> CsvTable:
        """The table of a CSV file with a header."""
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as lines:
                reader = csv.DictReader(lines)
                columns = {name.strip().lower(): name for name in reader.fieldnames or []}
                rows = [(reader.line_num, {key: row[name] for key, name in columns.items()}) for row in reader]
        except (csv.Error, ValueError) as error:
            raise self._unreadable("CSV", error) from error
        return CsvTable(tuple(columns), rows)

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
        return DataError(f"{self.path}: cannot be read as {syntax} ({error}). Is it damaged or cut? Export it again")


def first_text(row: Mapping[str, str | None], columns: Iterable[str]) -> str:
    """Return a row's text in the first of several columns that the table has; empty if it has none of them."""
    return next((row[column] or "" for column in columns if column in row), "")


def _listing(names: Iterable[str]) -> str:
    every = [_short(name) for name in names]
    more = f" and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return (", ".join(every[:LISTED]) or "(none)") + more


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
