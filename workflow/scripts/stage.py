from importlib import import_module
from inspect import signature

from pipeline_lib.runtime.digests import check, note
from pipeline_lib.runtime.log import log_to
from pipeline_lib.settings.messages import arguments_of

log_to(snakemake.log[0])
stage = getattr(import_module(f"pipeline_lib.stages.{snakemake.rule}"), snakemake.rule)
plain = {**snakemake.input, **snakemake.output, **snakemake.params}
if "code" not in signature(stage).parameters:
    del plain["code"]  # only Snakemake needs it, to notice that the library has changed
arguments = arguments_of(stage, plain)
check(snakemake.input, snakemake.config["results"])
stage(**arguments)
note(snakemake.output, snakemake.config["results"])
