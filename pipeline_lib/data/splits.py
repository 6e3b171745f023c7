"""Which slices of a volume belong to which split: by half-open ranges of slices, or by the names of their files."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pipeline_lib.errors import DataError

REST = "rest"  # of a split: all files that no other split of the volume names


def split_slices(where: str, names: Sequence[str], volume: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Return the slices of a volume that are in a split, as (index, split), by index.

    Args:
        where: the path of the volume's images, for errors.
        names: of the slices' files, in order; of a stack in one file, one empty name for each slice.
        volume: its `split`, and `every` to take every so many-th slice of each range.

    Raises:
        DataError: a range leaves the volume, a pattern matches no file, or a slice is in two splits.
    """
    chosen: dict[int, str] = {}
    for split, part in volume["split"].items():
        if part == REST:
            continue
        for index in _indices(where, split, part, names, volume.get("every", 1)):
            other = chosen.setdefault(index, split)
            if other != split:
                called = f" ({names[index]})" if names[index] else ""
                raise DataError(f"{where}: slice {index}{called} is both in {other} and in {split}")
    for split, part in volume["split"].items():
        if part == REST:
            chosen |= dict.fromkeys(set(range(len(names))) - chosen.keys(), split)
            if split not in chosen.values():
                raise DataError(f"{where}: {split} is `rest`, but the other splits name all {len(names)} files")
    return sorted(chosen.items())


def _indices(where: str, split: str, part: Any, names: Sequence[str], every: int) -> Sequence[int]:
    """Return the slices that a range [start, stop] or a list of patterns stands for."""
    if all(isinstance(bound, int) for bound in part):
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
