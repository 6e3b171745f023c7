from pipeline_lib.log import log_to

log_to(snakemake.log[0])
from pipeline_lib.audit import audit

audit(**snakemake.input, **snakemake.output, **snakemake.params)
