rule weights:
    input:
        checkpoint_of,  # without a name, because it is not an argument of the stage
    output:
        manifest="<results>/weights/{backbone}.json",
    log:
        "<logs>/weights/{backbone}.log",
    benchmark:
        "<benchmarks>/weights/{backbone}.tsv"
    priority: 1  # a wrong checkpoint is found before any job that needs a GPU
    localrule: True  # because compute nodes may have no network
    conda:
        "../../envs/pipeline.yaml"
    params:
        code=code_of("weights"),
        backbone=lambda wildcards: backbone_of(CONFIG, wildcards.backbone).plain(),
        folder="resources",
    script:
        "../scripts/stage.py"


rule embed:
    input:
        store=rules.convert.output.store,
        boxes=rules.boxes.output.boxes,
        weights=WEIGHTS,
    output:
        embeddings=directory("<results>/embed/{dataset}.zarr"),
        timing="<results>/embed/{dataset}.json",
    log:
        "<logs>/embed/{dataset}.log",
    benchmark:
        "<benchmarks>/embed/{dataset}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(8000),  # measured: 1,015
        runtime=growing(60),
    params:
        code=code_of("embed"),
        precision=CONFIG.embed.precision,
        dtype=CONFIG.embed.dtype,
        batch=CONFIG.embed.batch,
    script:
        "../scripts/stage.py"


rule train:
    input:
        unpack(start_of),
        stores=of_training_sets(rules.convert.output.store),
        boxes=of_training_sets(rules.boxes.output.boxes),
        embeddings=of_training_sets(rules.embed.output.embeddings),
        weights=WEIGHTS,
    output:
        model="<results>/train/{dataset}/{model}/{seed}.safetensors",
        curve="<results>/train/{dataset}/{model}/{seed}.csv",
    log:
        "<logs>/train/{dataset}/{model}/{seed}.log",
    benchmark:
        "<benchmarks>/train/{dataset}/{model}/{seed}.tsv"
    wildcard_constraints:
        dataset="|".join([*CONFIG.datasets, JOINT]),
    conda:
        "../../envs/pipeline.yaml"
    threads: 2
    resources:
        gpu=1,
        mem_mb=growing(8000),  # measured: 1,531
        runtime=growing(120),
    params:
        code=code_of("train"),
        dataset=lambda wildcards: wildcards.dataset,
        training=lambda wildcards: training_of(CONFIG, wildcards.model).plain(),
        seed=lambda wildcards: int(wildcards.seed),
    script:
        "../scripts/stage.py"
