rule analysis:
    input:
        scores=every_cell(rules.score.output.scores),
        passes=every_cell(rules.refine.output.passes),
        boxes=expand(rules.boxes.output.boxes, dataset=config["tables"]),
        stores=expand(rules.convert.output.store, dataset=config["tables"]),
    output:
        groups=report("<results>/analysis/groups.csv", caption="../report/groups.rst", category="Objects"),
        changes=report("<results>/analysis/changes.csv", caption="../report/changes.rst", category="Objects"),
        worst=report("<results>/analysis/worst.csv", caption="../report/worst.rst", category="Objects"),
    log:
        "<logs>/analysis.log",
    benchmark:
        "<benchmarks>/analysis.tsv"
    conda:
        "../../envs/pipeline.yaml"
    resources:
        mem_mb=growing(1000),  # measured: 262
        runtime=growing(10),
    params:
        rules={name: settings(config, config["models"][name], "refine") for name in config["rows"]},
    script:
        "../scripts/stage.py"


rule report:
    input:
        audit=rules.audit.output.findings,
        tables=rules.tables.output.csv,
        differences=rules.tables.output.differences,
        claims=rules.tables.output.claims,
        groups=rules.analysis.output.groups,
        changes=rules.analysis.output.changes,
        worst=rules.analysis.output.worst,
        curves=every_training(rules.train.output.curve),
        passes=shown_cells(rules.refine.output.passes),
        scores=shown_cells(rules.score.output.scores),
        stores=expand(rules.convert.output.store, dataset=config["tables"]),
        manifests=expand(rules.raw.output.manifest, dataset=config["tables"]),
        weights=rules.weights.output.manifest,
    output:
        html=report("<results>/report.html", caption="../report/report.rst", category="Report"),
        figures=report(
            directory("<results>/figures"),
            patterns=["{dataset}_{chart}.svg", "{dataset}_{chart}.png"],
            caption="../report/figures.rst",
            category="Charts",
            subcategory="{dataset}",
            labels={"data set": "{dataset}", "chart": "{chart}"},
        ),
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.tsv"
    conda:
        "../../envs/pipeline.yaml"
    resources:
        mem_mb=growing(2000),  # measured: 748
        runtime=growing(30),
    params:
        experiment=experiment(),
        config=config,
    script:
        "../scripts/stage.py"
