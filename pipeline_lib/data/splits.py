"""Divide the slices of a volume into splits, by half-open ranges of slices or by the names of their files."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline_lib.errors import DataError
from pipeline_lib.settings.datasets import Patterns, SliceRange, Split, is_range


def split_slices(where: str, names: Sequence[str], split: Split, every: int = 1) -> list[tuple[int, str]]:
    """Return the slices of a volume that are in a split, as (index, split), sorted by index.

    Args:
        where: Path of the images, for messages.
        names: Names of the files of the slices, in order. A stack in one file has an empty name for each slice.
        split: Ranges or patterns for each split.
        every: Distance of the slices that are used in a range.

    Raises:
        DataError: A range leaves the volume, a pattern matches no file, or a slice is in two splits.
    """
    # Ranges and patterns
    splits: dict[int, str] = {}
    parts = split.parts()
    for name, part in parts.items():
        if part == "rest":
            continue
        for index in _indices(where, name, part, names, every):
            other = splits.setdefault(index, name)
            if other != name:
                file = f" ({names[index]})" if names[index] else ""
                raise DataError(f"{where}: slice {index}{file} is both in {other} and in {name}. Take it out of one")
    # `rest` has all other slices, but not those that `every` skips
    for name, part in parts.items():
        if part == "rest":
            ranges = [other for other in parts.values() if other != "rest" and is_range(other)]
            excluded = {*splits, *(index for start, stop in ranges for index in range(start, stop))}
            splits |= dict.fromkeys(set(range(len(names))) - excluded, name)
            if name not in splits.values():
                raise DataError(
                    f"{where}: {name} is `rest`, but the other splits name all {len(names)} files. Leave out {name}, "
                    "or name fewer files in the other splits"
                )
    return sorted(splits.items())


def _indices(where: str, split: str, part: SliceRange | Patterns, names: Sequence[str], every: int) -> Sequence[int]:
    """Return the slices of a split, in ascending order.

    Args:
        where: Path of the images, for messages.
        split: Name of the split.
        part: A range [start, stop), or patterns.
        names: As in `split_slices`.
        every: As in `split_slices`.
    """
    if is_range(part):
        start, stop = part
        if not 0 <= start < stop <= len(names):
            raise DataError(
                f"{where}: expected a range within its {len(names)} slices, but {split} is [{start}, {stop}). Change "
                "the range"
            )
        return range(start, stop, every)
    if not any(names):
        raise DataError(f"{where}: expected a range of slices, because this is one file, but {split} names files")
    matches = {pattern: [i for i, name in enumerate(names) if _matches(name, pattern)] for pattern in part}
    for pattern, indices in matches.items():
        if not indices:
            listed = ", ".join(names[:3])
            raise DataError(f"{where}: no file matches {pattern!r} of split {split}. The files are {listed}, …")
    return sorted({index for indices in matches.values() for index in indices})


def _matches(name: str, pattern: str) -> bool:
    """Return whether a pattern with `*`, `?` and `[…]` matches the name of a file, with or without suffix."""
    return fnmatchcase(name, pattern) or fnmatchcase(Path(name).stem, pattern)
