from snakemake.utils import min_version, validate

from pipeline_lib.config import check_config

min_version("9.27")


configfile: "config.yaml"


validate(config, "workflow/schemas/config.schema.yaml")
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


rule all:
    default_target: True
    input:
        "<results>/tables.md",
        "<results>/report.html",
        # Snakemake looks for a deleted file only among its targets.
        every_cell(rules.refine.output.passes),
        every_cell(rules.score.output.scores),
    localrule: True
