"""Run stages one after the other, and skip those that are finished when the command runs again."""

import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.code_digest import code_digest
from pipeline_lib.runtime.hashing import key_of

log = logging.getLogger(__name__)


class Steps:
    """A sequence of stages, each of which reads results of earlier ones.

    A key identifies everything that decides a stage's result: the inputs, and the settings and code of this stage and
    all earlier ones. When a stage is finished, its key is written to a file. A stage is skipped if its key and its
    results exist.
    """

    def __init__(self, folder: Path, *inputs: Any) -> None:
        """Start a sequence of stages.

        Args:
            folder: folder for the files of keys.
            inputs: digests or other values of JSON that identify all inputs of the sequence.
        """
        self.folder = folder
        self.key = key_of(*inputs)

    def run(
        self,
        name: str,
        stage: Callable[..., None],
        reads: Mapping[str, Any],
        writes: Mapping[str, str],
        settings: Mapping[str, Any],
        resumes: bool = False,
    ) -> None:
        """Run a stage unless it is finished.

        Args:
            name: name of the step, unique in the sequence.
            stage: function of the stage.
            reads: paths that it reads, by the names of its arguments.
            writes: paths that it writes, by the names of its arguments.
            settings: its other arguments: values of JSON, or settings.
            resumes: whether it has the argument `code`, a digest that it needs to resume unfinished work.
        """
        code = code_digest(stage.__module__)
        self.key = key_of(self.key, name, code, {key: _plain(value) for key, value in settings.items()})
        finished = self.folder / f"{name}.key"
        if finished.exists() and finished.read_text() == self.key and all(map(_exists, writes.values())):
            log.info("%s: finished before", name)
            return
        log.info("%s", name)
        finished.unlink(missing_ok=True)
        stage(**reads, **writes, **settings, **({"code": code} if resumes else {}))
        with atomic(finished) as partial:
            partial.write_text(self.key)


def remove_outdated(output: Path, option: str, is_chosen: bool) -> None:
    """Remove an optional output of an earlier run, whose masks can differ from those of this run.

    Args:
        output: its folder, which need not exist.
        option: option of the command that writes it.
        is_chosen: whether this run writes it again. If not, the log says how.
    """
    if not output.exists():
        return
    shutil.rmtree(output)
    if not is_chosen:
        log.info("%s: removed, because an earlier run wrote it; --%s writes it again", output, option)


def _exists(path: str) -> bool:
    return Path(path).exists()


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
