from pipeline_lib.log import log_to

log_to(snakemake.log[0])
from pipeline_lib.train import train

train(**snakemake.input, **snakemake.output, **snakemake.params)
