rule refine:
    input:
        store=rules.convert.output.store,
        boxes=rules.boxes.output.boxes,
        embeddings=rules.embed.output.embeddings,
        weights=rules.weights.output.manifest,
        model=lambda wildcards: "<results>/train/{dataset}/{trained}/{seed}.safetensors".format(
            trained=trained_by(wildcards.model), **wildcards
        ),
    output:
        passes="<results>/refine/{dataset}/{model}/{seed}/{level}.parquet",
        timing="<results>/refine/{dataset}/{model}/{seed}/{level}.json",
    log:
        "<logs>/refine/{dataset}/{model}/{seed}/{level}.log",
    benchmark:
        "<benchmarks>/refine/{dataset}/{model}/{seed}/{level}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    resources:
        gpu=1,
    params:
        dataset=lambda wildcards: wildcards.dataset,
        level=lambda wildcards: int(wildcards.level),
        seed=lambda wildcards: int(wildcards.seed),
        deviation=settings_of("deviation"),
        settings=settings_of("refine"),
    script:
        "../scripts/refine.py"


rule score:
    input:
        store=rules.convert.output.store,
        boxes=rules.boxes.output.boxes,
        passes=rules.refine.output.passes,
    output:
        scores="<results>/score/{dataset}/{model}/{seed}/{level}.csv",
    log:
        "<logs>/score/{dataset}/{model}/{seed}/{level}.log",
    benchmark:
        "<benchmarks>/score/{dataset}/{model}/{seed}/{level}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    script:
        "../scripts/score.py"


rule tables:
    input:
        scores=every_cell(rules.score.output.scores),
        timings=every_cell(rules.refine.output.timing),
        embed_timings=expand(rules.embed.output.timing, dataset=config["tables"]),
    output:
        markdown="<results>/tables.md",
        csv="<results>/tables.csv",
        differences="<results>/differences.csv",
        claims="<results>/claims.csv",
    log:
        "<logs>/tables.log",
    benchmark:
        "<benchmarks>/tables.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        experiment={
            "datasets": {
                name: {key: config["datasets"][name][key] for key in ("title", "published")}
                for name in config["tables"]
            },
            "models": {
                name: {key: config["models"][name][key] for key in ("title", "prompt_tuning")}
                for name in config["rows"]
            },
            "levels": config["levels"],
            "miou": config["miou"],
            "claims": config["claims"],
        },
    script:
        "../scripts/tables.py"


rule analysis:
    input:
        scores=every_cell(rules.score.output.scores),
        passes=every_cell(rules.refine.output.passes),
        boxes=expand(rules.boxes.output.boxes, dataset=config["tables"]),
        stores=expand(rules.convert.output.store, dataset=config["tables"]),
    output:
        groups="<results>/analysis/groups.csv",
        changes="<results>/analysis/changes.csv",
        worst="<results>/analysis/worst.csv",
    log:
        "<logs>/analysis.log",
    benchmark:
        "<benchmarks>/analysis.tsv"
    conda:
        "../../envs/pipeline.yaml"
    params:
        rules={name: settings(config, config["models"][name], "refine") for name in config["rows"]},
    script:
        "../scripts/analysis.py"
