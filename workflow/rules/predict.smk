rule prompts:
    input:
        unpack(model_of),
        files=lambda wildcards: files_of_set(SETS[wildcards.set]),
    output:
        prompts=directory("<results>/prompts/{set}"),
    log:
        "<logs>/prompts/{set}.log",
    benchmark:
        "<benchmarks>/prompts/{set}.tsv"
    priority: 1  # finds bad boxes before any job that needs a GPU
    conda:
        "../../envs/pipeline.yaml"
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        code=code_of("prompts"),
        images=lambda wildcards: SETS[wildcards.set].images,
        boxes=lambda wildcards: list(SETS[wildcards.set].boxes),
        settings=lambda wildcards: SETS[wildcards.set].segment.prompts().plain(),
    script:
        "../scripts/stage.py"


rule segment:
    input:
        unpack(model_of),
        prompts=rules.prompts.output.prompts,
    output:
        iterations="<results>/segment/{set}/{shard}.parquet",
        timing="<results>/segment/{set}/{shard}.json",
    log:
        "<logs>/segment/{set}/{shard}.log",
    benchmark:
        "<benchmarks>/segment/{set}/{shard}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(120),
    params:
        code=code_of("segment"),
        shard=lambda wildcards: int(wildcards.shard),
        shards=of_set("shards"),
        batch=of_set("batch"),
        precision=of_set("precision"),
        refine=lambda wildcards: SETS[wildcards.set].refine.plain(),
    script:
        "../scripts/stage.py"


rule collect:
    input:
        unpack(model_of),
        prompts=rules.prompts.output.prompts,
        iterations=shards_of_segment,
    output:
        labels=directory("<results>/collect/{set}/labels.zarr"),
        objects="<results>/collect/{set}/objects.csv",
        summary="<results>/collect/{set}/summary.csv",
        coco="<results>/collect/{set}/coco.json",
        coco_polygons="<results>/collect/{set}/coco_polygons.json",
        page="<results>/collect/{set}/predict.html",
    log:
        "<logs>/collect/{set}.log",
    benchmark:
        "<benchmarks>/collect/{set}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        code=code_of("collect"),
        name=lambda wildcards: wildcards.set,
        pixel_size=of_set("pixel_size"),
        flags=of_set("flags"),
        refine=lambda wildcards: SETS[wildcards.set].refine.plain(),
    script:
        "../scripts/stage.py"


rule outlines:
    input:
        prompts=rules.prompts.output.prompts,
        iterations=rules.collect.input.iterations,
    output:
        outlines=directory("<results>/outlines/{set}/{form}"),
    log:
        "<logs>/outlines/{set}/{form}.log",
    benchmark:
        "<benchmarks>/outlines/{set}/{form}.tsv"
    wildcard_constraints:
        form="|".join(get_args(OutlineForm)),
    conda:
        "../../envs/pipeline.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        code=code_of("outlines"),
        form=lambda wildcards: wildcards.form,
    script:
        "../scripts/stage.py"


rule track:
    input:
        unpack(model_of),
        prompts=rules.prompts.output.prompts,
        iterations=shards_of_segment,
    output:
        tracks="<results>/track/{set}/{shard}.parquet",
    log:
        "<logs>/track/{set}/{shard}.log",
    benchmark:
        "<benchmarks>/track/{set}/{shard}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 8
    resources:
        gpu=1,
        mem_mb=growing(8000),
        runtime=growing(240),
    params:
        code=code_of("track"),
        shard=lambda wildcards: int(wildcards.shard),
        batch=of_set("batch"),
        precision=of_set("precision"),
        settings=lambda wildcards: SETS[wildcards.set].segment.prompts().plain(),
        refine=lambda wildcards: SETS[wildcards.set].refine.plain(),
        track=of_set("track"),
    script:
        "../scripts/stage.py"


rule collect_tracks:
    input:
        unpack(model_of),
        prompts=rules.prompts.output.prompts,
        tracks=lambda wildcards: expand(
            rules.track.output.tracks, set=wildcards.set, shard=range(SETS[wildcards.set].segment.track.shards)
        ),
    output:
        labels=directory("<results>/collect_tracks/{set}/labels.zarr"),
        objects="<results>/collect_tracks/{set}/objects.csv",
        slices="<results>/collect_tracks/{set}/slices.csv",
        page="<results>/collect_tracks/{set}/track.html",
    log:
        "<logs>/collect_tracks/{set}.log",
    benchmark:
        "<benchmarks>/collect_tracks/{set}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        code=code_of("collect_tracks"),
        name=lambda wildcards: wildcards.set,
        pixel_size=of_set("pixel_size"),
        flags=lambda wildcards: SETS[wildcards.set].segment.track.flags.plain(),
    script:
        "../scripts/stage.py"


rule label_tiffs:
    input:
        labels=rules.collect.output.labels,
    output:
        tiffs=directory("<results>/label_tiffs/{set}"),
    log:
        "<logs>/label_tiffs/{set}.log",
    benchmark:
        "<benchmarks>/label_tiffs/{set}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        code=code_of("label_tiffs"),
    script:
        "../scripts/stage.py"


rule export:
    input:
        model="<results>/train/{dataset}/{model}/{seed}.safetensors",
        curve="<results>/train/{dataset}/{model}/{seed}.csv",
        weights=WEIGHTS,
    output:
        export=directory("<results>/export/{dataset}/{model}/{seed}"),
    log:
        "<logs>/export/{dataset}/{model}/{seed}.log",
    benchmark:
        "<benchmarks>/export/{dataset}/{model}/{seed}.tsv"
    wildcard_constraints:
        dataset="|".join([*CONFIG.datasets, JOINT]),
    conda:
        "../../envs/pipeline.yaml"
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        code=code_of("export"),
        forms=CONFIG.plain()["export"],
    script:
        "../scripts/stage.py"
