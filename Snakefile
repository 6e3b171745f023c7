from snakemake.utils import min_version, validate

from pipeline_lib.config import check_config, refuse_old_keys, with_likes

min_version("9.27")


configfile: "config.yaml"


refuse_old_keys(config)
config["models"] = with_likes(config["models"])
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
include: "workflow/rules/predict.smk"


rule all:
    default_target: True
    input:
        "<results>/tables.md",
        "<results>/report.html",
        every_dataset(rules.raw.output.manifest),
        # Snakemake looks for a deleted file only among its targets: test_a_deleted_level_redoes_that_level_and_the_tables.
        every_cell(rules.refine.output.iterations),
        every_cell(rules.score.output.scores),
    localrule: True
