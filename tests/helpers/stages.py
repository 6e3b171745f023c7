"""Calls of stages with plain values, as the workflow's script makes them."""

from collections.abc import Callable
from typing import Any

from pipeline_lib.settings.messages import arguments_of


def run_stage(stage: Callable[..., None], **plain: Any) -> None:
    """Call a stage with settings as YAML has them."""
    stage(**arguments_of(stage, plain))
