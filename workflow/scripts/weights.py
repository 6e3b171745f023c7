from pipeline_lib.log import log_to

log_to(snakemake.log[0])
from pipeline_lib.weights import weights

weights(**snakemake.output, **snakemake.params)
