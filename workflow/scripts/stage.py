from importlib import import_module

from pipeline_lib.runtime.log import log_to

log_to(snakemake.log[0])
stage = getattr(import_module(f"pipeline_lib.stages.{snakemake.rule}"), snakemake.rule)
stage(**snakemake.input, **snakemake.output, **snakemake.params)
