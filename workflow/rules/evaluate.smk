rule refine:
    input:
        store=rules.convert.output.store,
        boxes=rules.boxes.output.boxes,
        embeddings=rules.embed.output.embeddings,
        weights=WEIGHTS,
        model=lambda wildcards: weights_file(CONFIG, wildcards.dataset, wildcards.model, int(wildcards.seed)),
    output:
        iterations="<results>/refine/{dataset}/{model}/{seed}/{level}.parquet",
        timing="<results>/refine/{dataset}/{model}/{seed}/{level}.json",
    log:
        "<logs>/refine/{dataset}/{model}/{seed}/{level}.log",
    benchmark:
        "<benchmarks>/refine/{dataset}/{model}/{seed}/{level}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    resources:
        gpu=1,
        mem_mb=growing(8000),  # measured: 1,120
        runtime=growing(30),
    params:
        code=code_of("refine"),
        tested=TESTED,
        dataset=lambda wildcards: wildcards.dataset,
        level=lambda wildcards: int(wildcards.level),
        seed=lambda wildcards: int(wildcards.seed),
        deviation=lambda wildcards: deviation_of(CONFIG, wildcards.model).plain(),
        refine=lambda wildcards: refine_of(CONFIG, wildcards.model).plain(),
    script:
        "../scripts/stage.py"


rule score:
    input:
        store=rules.convert.output.store,
        boxes=rules.boxes.output.boxes,
        iterations=rules.refine.output.iterations,
    output:
        scores="<results>/score/{dataset}/{model}/{seed}/{level}.csv",
    log:
        "<logs>/score/{dataset}/{model}/{seed}/{level}.log",
    benchmark:
        "<benchmarks>/score/{dataset}/{model}/{seed}/{level}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    resources:
        turn=1,  # in a group, see slurm/config.yaml
        mem_mb=growing(1000),  # measured: 178
        runtime=growing(10),
    params:
        code=code_of("score"),
        tested=TESTED,
    script:
        "../scripts/stage.py"


rule audit:
    input:
        stores=every_dataset(rules.convert.output.store),
        boxes=every_dataset(rules.boxes.output.boxes),
        models=every_weights_file(),
        iterations=every_cell(rules.refine.output.iterations),
        scores=every_cell(rules.score.output.scores),
    output:
        findings=report("<results>/audit.csv", caption="../report/audit.rst", category="Tables"),
    log:
        "<logs>/audit.log",
    benchmark:
        "<benchmarks>/audit.tsv"
    conda:
        "../../envs/pipeline.yaml"
    resources:
        mem_mb=growing(2000),  # measured: 778
        runtime=growing(10),
    params:
        code=code_of("audit"),
        tested=TESTED,
        rows={name: row.plain() for name, row in audited_rows(CONFIG).items()},
    script:
        "../scripts/stage.py"


rule tables:
    input:
        audit=rules.audit.output.findings,
        scores=every_cell(rules.score.output.scores),
        timings=every_cell(rules.refine.output.timing),
        embed_timings=every_dataset(rules.embed.output.timing),
    output:
        markdown="<results>/tables.md",
        csv=report("<results>/tables.csv", caption="../report/tables.rst", category="Tables"),
        differences=report("<results>/differences.csv", caption="../report/differences.rst", category="Tables"),
        claims=report("<results>/claims.csv", caption="../report/claims.rst", category="Tables"),
    log:
        "<logs>/tables.log",
    benchmark:
        "<benchmarks>/tables.tsv"
    conda:
        "../../envs/pipeline.yaml"
    resources:
        mem_mb=growing(1000),  # measured: 193
        runtime=growing(10),
    params:
        code=code_of("tables"),
        experiment=TABLES,
    script:
        "../scripts/stage.py"
