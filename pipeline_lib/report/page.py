"""Fill the templates of pages. Pages open from disk without a network, and have no scripts."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline_lib.report.examples import BUDGET

REPORT = "report.html.j2"
INCLUDED = ("macros.html.j2", "style.css")  # files that templates include; named here for the code digest


class Sized(Protocol):
    """A part of a page whose size is known."""

    @property
    def bytes(self) -> int:
        """Approximate size in the page, bytes."""
        ...


Shown = TypeVar("Shown", bound=Sized)


def render(template: str, **values: Any) -> str:
    """Return the page that a template of this folder makes from values."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.get_template(template).render(**values)


def raised_flags(
    flags: pd.Series, meanings: Mapping[str, str], thresholds: Mapping[str, float | None]
) -> Iterator[dict[str, Any]]:
    """Yield each flag that objects have, with its meaning and the number of these objects.

    Args:
        flags: flags of each object, separated by "; ".
        meanings: meaning of each flag, with names of thresholds in braces.
        thresholds: their values.
    """
    for flag, meaning in meanings.items():
        count = int(flags.str.contains(flag, regex=False).sum())
        if count:
            yield {"flag": flag, "count": count, "means": meaning.format(**thresholds)}


def within_budget(examples: Iterable[Shown], budget: int = BUDGET) -> Iterator[Shown]:
    """Yield the first examples whose sizes add up to at most `budget` bytes."""
    total = 0
    for each in examples:
        total += each.bytes
        if total > budget:
            return
        yield each
