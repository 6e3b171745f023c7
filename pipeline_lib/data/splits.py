"""Which slices of a volume belong to which split: by half-open ranges of slices, or by the names of their files."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline_lib.errors import DataError
from pipeline_lib.settings.datasets import Patterns, SliceRange, Split, is_range


def split_slices(where: str, names: Sequence[str], split: Split, every: int = 1) -> list[tuple[int, str]]:
    """Return the slices of a volume that are in a split, as (index, split), by index.

    Args:
        where: the path of the volume's images, for errors.
        names: of the slices' files, in order; of a stack in one file, one empty name for each slice.
        split: ranges or patterns for each split.
        every: distance of the slices that are taken of each range.

    Raises:
        DataError: a range leaves the volume, a pattern matches no file, or a slice is in two splits.
    """
    chosen: dict[int, str] = {}
    parts = split.parts()
    for name, part in parts.items():
        if part == "rest":
            continue
        for index in _indices(where, name, part, names, every):
            other = chosen.setdefault(index, name)
            if other != name:
                called = f" ({names[index]})" if names[index] else ""
                raise DataError(f"{where}: slice {index}{called} is both in {other} and in {name}")
    for name, part in parts.items():
        if part == "rest":
            ranges = [other for other in parts.values() if other != "rest" and is_range(other)]
            taken = {
                *chosen,
                *(index for start, stop in ranges for index in range(start, stop)),
            }  # also between `every`
            chosen |= dict.fromkeys(set(range(len(names))) - taken, name)
            if name not in chosen.values():
                raise DataError(f"{where}: {name} is `rest`, but the other splits name all {len(names)} files")
    return sorted(chosen.items())


def _indices(where: str, split: str, part: SliceRange | Patterns, names: Sequence[str], every: int) -> Sequence[int]:
    """Return the slices that a range [start, stop] or some patterns stand for."""
    if is_range(part):
        start, stop = part
        if not 0 <= start < stop <= len(names):
            raise DataError(
                f"{where}: {split} is to be slices [{start}, {stop}), "
                f"a range within its {len(names)} slices is expected"
            )
        return range(start, stop, every)
    if not any(names):
        raise DataError(f"{where}: {split} names files, but this is one file; expected a range of slices")
    matches = {pattern: [i for i, name in enumerate(names) if _matches(name, pattern)] for pattern in part}
    for pattern, indices in matches.items():
        if not indices:
            listed = ", ".join(names[:3])
            raise DataError(f"{where}: no file matches {pattern!r} of split {split}; it has {listed}, …")
    return sorted({index for indices in matches.values() for index in indices})


def _matches(name: str, pattern: str) -> bool:
    """Say whether a pattern with `*`, `?` and `[…]` matches a file's name, with or without its suffix."""
    return fnmatchcase(name, pattern) or fnmatchcase(Path(name).stem, pattern)
