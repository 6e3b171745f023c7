"""Stages that a command runs one after the other; those that are finished are left out when it runs again."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.code_digest import code_digest
from pipeline_lib.runtime.hashing import key_of

log = logging.getLogger(__name__)


class Steps:
    """A line of stages, of which each reads what earlier ones wrote.

    A key stands for all that decides a stage's result: the settings and the code of this stage and of all stages before
    it, and what the line begins with. When a stage is finished, its key is written beside its results. A stage whose
    key and results are there is left out.
    """

    def __init__(self, folder: Path, *beginning: Any) -> None:
        """Begin a line of stages.

        Args:
            folder: where the keys lie.
            beginning: values that JSON can hold, which stand for all inputs.
        """
        self.folder = folder
        self.key = key_of(*beginning)

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
            name: name of the step, unique in the line.
            stage: function of the stage.
            reads: paths that it reads, by the names of its arguments.
            writes: paths that it writes.
            settings: its other arguments, values that JSON can hold or settings.
            resumes: whether it takes a digest of its `code`, by which it resumes unfinished work.
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


def _exists(path: str) -> bool:
    return Path(path).exists()


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
