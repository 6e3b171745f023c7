"""Digests of results, noted when a stage has written them and compared before another reads them.

A result that was cut, flipped or edited since is an error with its name, whatever its format. Of Zarr folders the
metadata are noted; in the chunks of the stages convert and embed there are checksums. This finds damage, not forgery.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline_lib.errors import DataError
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.hashing import file_digest

log = logging.getLogger(__name__)

FOLDER = "digests"  # within the folder of results, each at its result's own path


def note(outputs: Iterable[str], results: str | Path) -> None:
    """Write down the digests of a stage's outputs, files or folders, but for those that are not within `results`."""
    for output in outputs:
        if not Path(output).is_relative_to(results):
            continue
        digests = {str(file.relative_to(results)): file_digest(file) for file in _files(Path(output))}
        with atomic(_noted(output, results)) as partial:
            partial.write_text(json.dumps(digests) + "\n")


def check(inputs: Iterable[str], results: str | Path) -> None:
    """Compare a stage's inputs with what was noted of them; of those that no stage has noted nothing is known.

    Raises:
        DataError: one is missing, or is not what was written.
    """
    for path in inputs:
        if not Path(path).is_relative_to(results) or not _noted(path, results).exists():
            continue
        for name, digest in _read(_noted(path, results)).items():
            file = Path(results, name)
            if not file.exists():
                raise DataError(f"{file}: missing; delete {path}, and it is made again")
            if file_digest(file) != digest:
                raise DataError(f"{file}: changed since it was written; delete {path}, and it is made again")


def _files(output: Path) -> Iterator[Path]:
    if not output.is_dir():
        return iter([output])
    pattern = "zarr.json" if (output / "zarr.json").exists() else "*"
    return (file for file in output.rglob(pattern) if file.is_file())


def _noted(path: str, results: str | Path) -> Path:
    place = Path(results, FOLDER, Path(path).relative_to(results))
    return place.with_name(f"{place.name}.json")


def _read(path: Path) -> dict[str, str]:
    try:
        digests: dict[str, str] = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        log.warning("%s: damaged, so nothing is known of its result", path)
        return {}
    return digests
