"""Calls of stages with plain values, as the workflow's script makes them."""

import pkgutil
from collections.abc import Callable
from typing import Any

from helpers.fork_server import ForkServer
from pipeline_lib import stages
from pipeline_lib.settings.messages import arguments_of

MODULES = [f"pipeline_lib.stages.{module.name}" for module in pkgutil.iter_modules(stages.__path__)]
# For stages in processes of their own. An optimizer imports torch._dynamo.
SERVER = ForkServer("helpers.chain", "helpers.training", "pipeline_lib.cli", *MODULES, "torch._dynamo")


def run_stage(stage: Callable[..., None], **plain: Any) -> None:
    """Call a stage with settings as YAML has them."""
    stage(**arguments_of(stage, plain))
