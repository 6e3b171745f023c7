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
        # Snakemake looks for a deleted file only among its targets: test_whatever_is_lost_is_made_again.
        rules.tables.output,
        rules.report.output,
        rules.analysis.output,
        rules.audit.output,
        rules.weights.output,
        every_dataset(rules.raw.output.manifest),
        every_dataset(rules.convert.output.store),
        every_dataset(rules.boxes.output.boxes),
        every_dataset(rules.embed.output),
        every_training(rules.train.output),
        every_cell(rules.refine.output),
        every_cell(rules.score.output.scores),
    localrule: True
