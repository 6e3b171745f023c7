rule analysis:
    input:
        scores=every_cell(rules.score.output.scores),
        iterations=every_cell(rules.refine.output.iterations),
        boxes=every_dataset(rules.boxes.output.boxes),
        stores=every_dataset(rules.convert.output.store),
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
        code=code_of("analysis"),
        tested=TESTED,
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
        iterations=shown_cells(rules.refine.output.iterations),
        scores=shown_cells(rules.score.output.scores),
        stores=every_dataset(rules.convert.output.store),
        manifests=every_dataset(rules.raw.output.manifest),
        weights=WEIGHTS,
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
        code=code_of("report"),
        experiment=TABLES,
        config=lambda wildcards: printed(WRITTEN),
    script:
        "../scripts/stage.py"
