from snakemake.utils import min_version

from pipeline_lib.config.files import check_files
from pipeline_lib.config.folds import with_folds
from pipeline_lib.config.read import read_config

min_version("9.27")


configfile: "config.yaml"


check_files(workflow.configfiles)
WRITTEN = read_config(config)  # what tables show: a data set with folds is one
CONFIG = with_folds(WRITTEN)  # what is run: each fold is a data set


pathvars:
    results=CONFIG.results,
    logs="<results>/logs",
    benchmarks="<results>/benchmarks",


include: "workflow/rules/common.smk"
include: "workflow/rules/cluster.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/predict.smk"


rule all:
    default_target: True
    input:
        # Snakemake notices a missing file only among its targets, so the results of all stages are targets (docs/freshness.md).
        *every_result(),
        rules.tables.output,
        rules.report.output,
        rules.analysis.output,
    localrule: True
