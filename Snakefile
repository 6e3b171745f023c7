from snakemake.utils import min_version, validate

from pipeline_lib.config import ordered, with_folds, with_likes
from pipeline_lib.config_checks import (
    check_config,
    check_files,
    check_numbers,
)

min_version("9.27")


configfile: "config.yaml"


check_files(workflow.configfiles)
config["models"] = with_likes(config["models"])
validate(config, "workflow/schemas/config.schema.yaml")
check_numbers(config, workflow.source_path("workflow/schemas/config.schema.yaml"))
config["datasets"] = ordered(config["datasets"])
PRINTED = dict(config)  # what a reader of the report can run again
config.update(with_folds(config))
check_config(config)


pathvars:
    results=config["results"],
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
        # Snakemake looks for a deleted file only among its targets, so every stage's results are named (docs/freshness.md).
        *every_result(),
        rules.tables.output,
        rules.report.output,
        rules.analysis.output,
    localrule: True
