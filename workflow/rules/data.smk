rule raw:
    input:
        files=lambda wildcards: users_files(DATASETS[wildcards.dataset]),
    output:
        manifest="<results>/raw/{dataset}/manifest.json",
    log:
        "<logs>/raw/{dataset}.log",
    benchmark:
        "<benchmarks>/raw/{dataset}.tsv"
    priority: 1  # bad data is found before any job that needs a GPU
    localrule: True  # because compute nodes may have no network
    conda:
        "../../envs/pipeline.yaml"
    params:
        code=code_of("raw"),
        stamps=stamps_of_files,
        source=of_dataset("source"),
        volumes=of_dataset("volumes"),
        grey_range=of_dataset("grey_range"),
    script:
        "../scripts/stage.py"


rule convert:
    input:
        manifest=rules.raw.output.manifest,
    output:
        store=directory("<results>/convert/{dataset}.zarr"),
    log:
        "<logs>/convert/{dataset}.log",
    benchmark:
        "<benchmarks>/convert/{dataset}.tsv"
    priority: 1  # bad data is found before any job that needs a GPU
    conda:
        "../../envs/pipeline.yaml"
    resources:
        mem_mb=memory_of_convert,
        runtime=growing(30),
    params:
        code=code_of("convert"),
        labels=of_dataset("labels"),
        minimum_area=of_dataset("minimum_area"),
        pixel_size=of_dataset("pixel_size"),
        grey_range=of_dataset("grey_range"),
        tile=of_dataset("tile"),
        magnification=of_dataset("magnification"),
        crops=of_dataset("crops"),
        name=lambda wildcards: wildcards.dataset,
    script:
        "../scripts/stage.py"


rule boxes:
    input:
        store=rules.convert.output.store,
    output:
        boxes="<results>/boxes/{dataset}.csv",
    log:
        "<logs>/boxes/{dataset}.log",
    benchmark:
        "<benchmarks>/boxes/{dataset}.tsv"
    priority: 1  # bad data is found before any job that needs a GPU
    conda:
        "../../envs/pipeline.yaml"
    resources:
        mem_mb=growing(1000),  # measured: 141
        runtime=growing(30),
    params:
        code=code_of("boxes"),
    script:
        "../scripts/stage.py"
