"""Record digests of results when a stage has written them, and compare them before another stage reads them.

So a result that was truncated, damaged or edited is an error with its name, whatever its format. In Zarr folders, only
the metadata are recorded: the chunks of the stages convert and embed have checksums. This finds damage, not forgery.
"""

import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline_lib.errors import DataError
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.hashing import file_digest

log = logging.getLogger(__name__)

FOLDER = "digests"  # folder of the records in the folder of results; a record has the path of its result


def note(outputs: Iterable[str], results: str | Path) -> None:
    """Record the digests of a stage's outputs (files or folders) that lie in the folder `results`."""
    for output in outputs:
        if not Path(output).is_relative_to(results):
            continue
        digests = {str(file.relative_to(results)): file_digest(file) for file in _files(Path(output))}
        with atomic(_record_path(output, results)) as partial:
            partial.write_text(json.dumps(digests) + "\n")


def check(inputs: Iterable[str], results: str | Path) -> None:
    """Compare a stage's inputs with their records. Inputs without a record are not checked.

    Raises:
        DataError: a file is missing, or has changed since it was written.
    """
    for path in inputs:
        if not Path(path).is_relative_to(results) or not _record_path(path, results).exists():
            continue
        for name, digest in _read(_record_path(path, results)).items():
            file = Path(results, name)
            if not file.exists():
                raise DataError(f"{file}: missing; delete {path} and run again")
            if file_digest(file) != digest:
                raise DataError(f"{file}: changed since it was written; delete {path} and run again")


def _files(output: Path) -> Iterator[Path]:
    if not output.is_dir():
        return iter([output])
    pattern = "zarr.json" if (output / "zarr.json").exists() else "*"
    return (file for file in output.rglob(pattern) if file.is_file())


def _record_path(path: str, results: str | Path) -> Path:
    record = Path(results, FOLDER, Path(path).relative_to(results))
    return record.with_name(f"{record.name}.json")


def _read(path: Path) -> dict[str, str]:
    try:
        digests: dict[str, str] = dict(json.loads(path.read_text()))
    except (ValueError, TypeError):
        log.warning("%s: this record is damaged, so its result is not checked", path)
        return {}
    return digests
