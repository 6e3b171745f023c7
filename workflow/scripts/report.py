from pipeline_lib.log import log_to

log_to(snakemake.log[0])
from pipeline_lib.report import report

report(**snakemake.input, **snakemake.output, **snakemake.params)
