from pipeline_lib.log import log_to

log_to(snakemake.log[0])
from pipeline_lib.analysis import analysis

analysis(**snakemake.input, **snakemake.output, **snakemake.params)
