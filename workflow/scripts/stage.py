from importlib import import_module
from inspect import signature

from pipeline_lib.runtime.digests import check, note
from pipeline_lib.runtime.log import log_to

log_to(snakemake.log[0])
stage = getattr(import_module(f"pipeline_lib.stages.{snakemake.rule}"), snakemake.rule)
arguments = {**snakemake.input, **snakemake.output, **snakemake.params}
if "code" not in signature(stage).parameters:
    del arguments["code"]  # tells Snakemake alone that the library has changed
check(snakemake.input, snakemake.config["results"])
stage(**arguments)
note(snakemake.output, snakemake.config["results"])
