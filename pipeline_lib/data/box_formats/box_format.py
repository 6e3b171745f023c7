"""Describe a format of box files."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord


@dataclass(frozen=True)
class BoxFormat:
    """A format of box files: how to recognise a file of it, and how to read its boxes."""

    name: str
    """Value of `--format` and `segment.format`. Formats can share a name: `matches` decides between them."""
    title: str
    """Name in messages and in the documentation."""
    program: str
    """The programs that write it."""
    suffixes: tuple[str, ...]
    """Suffixes of its files, in lower case, with the dot."""
    content: str
    """What `matches` looks for, for error messages."""
    matches: Callable[[BoxFile], bool]
    """Return whether a file is of this format, by its keys, header or first bytes."""
    outline: Callable[[BoxFile], str]
    """Say what a file with this syntax holds, for the error message if no format matches."""
    read: Callable[[BoxFile, Images], Iterator[BoxRecord]] | None = None
    """Yield the boxes of a file that matches. None if LooseBox recognises the format but cannot read it."""
    instead: str = ""
    """If `read` is None, what the user must do to get a file that LooseBox can read."""
