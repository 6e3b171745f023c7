from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import get_args

from pipeline_lib.config.rows import (
    audited_rows,
    cell_axes,
    deviation_of,
    printed,
    refine_of,
    shown_axes,
    tables_config,
    tested_objects,
    trained_row,
    used_datasets,
    training_of,
    training_sets,
    trainings,
    weights_file,
)
from pipeline_lib.config.sets import backbone_of, files_of_set, image_sets, users_files, within_data
from pipeline_lib.data.model_header import model_path
from pipeline_lib.data.paths import JOINT
from pipeline_lib.runtime.code_digest import code_digest
from pipeline_lib.runtime.hashing import key_of
from pipeline_lib.settings.backbone import BackboneName
from pipeline_lib.settings.boxes import MeasuredMix
from pipeline_lib.settings.segment import OutlineForm, TrainedModel

DATASETS = within_data(CONFIG)
SETS = image_sets(CONFIG)
# Params must be plain values, because Snakemake compares them with those of the last run.
TESTED = tested_objects(CONFIG).plain()
TABLES = tables_config(WRITTEN).plain()
WEIGHTS = f"<results>/weights/{CONFIG.backbone.name}.json"


wildcard_constraints:
    dataset="|".join(CONFIG.datasets),
    model="|".join(CONFIG.models),
    seed="|".join(map(str, CONFIG.experiment.seeds)),
    level="|".join(map(str, CONFIG.experiment.levels)),
    set="|".join(SETS) or "none",
    backbone="|".join(get_args(BackboneName)),
    shard="[0-9]+",


def code_of(stage):
    """Return a function for the digest of a stage's code, so that an edit of this code runs the stage again.

    Snakemake calls the function only for jobs that it plans. In a job on SLURM, this is one job.
    """
    digest = cache(partial(code_digest, f"pipeline_lib.stages.{stage}"))
    return lambda wildcards: digest()


def of_dataset(key):
    """Return a key of a data set. A rule lists only the keys that its stage uses, so other changes do not run it again."""
    return lambda wildcards: DATASETS[wildcards.dataset].plain()[key]


def every_cell(pattern):
    """Return the files of a stage for each data set, model, seed and level of the experiment."""
    return expand(pattern, **cell_axes(CONFIG))


def every_dataset(pattern):
    """Return the files of a stage for each data set of the experiment."""
    return expand(pattern, dataset=CONFIG.experiment.datasets)


def every_training(pattern):
    """Return the files of the stage train for each training of the experiment."""
    return [file for training in trainings(CONFIG) for file in expand(pattern, **training._asdict())]


def every_weights_file():
    """Return the weights of all rows of the tables: files of trainings, or files that the configuration names."""
    files = (weights_file(CONFIG, *cell[:-1]) for cell in product(*cell_axes(CONFIG).values()))
    return list(dict.fromkeys(files))


def of_training_sets(pattern):
    """Return a function that gives the files of a stage for each data set of a training."""
    return lambda wildcards: expand(pattern, dataset=training_sets(CONFIG, wildcards.dataset, wildcards.model))


def start_of(wildcards):
    """Return the file of the model that a training starts from, or nothing if it starts from the backbone."""
    file = trained_row(CONFIG, wildcards.model).starts_from
    return {"start": str(model_path(file))} if file else {}


def deviations_of(wildcards):
    """Return the file of measured deviations that a training draws from: none if it draws levels."""
    mix = training_of(CONFIG, wildcards.model).mix
    return [mix.deviations] if isinstance(mix, MeasuredMix) else []


def every_result():
    """Return the results of all stages before the tables."""
    names = used_datasets(CONFIG)
    return [
        WEIGHTS,
        *expand(rules.raw.output, dataset=names),
        *expand(rules.convert.output, dataset=names),
        *expand(rules.boxes.output, dataset=names),
        *expand(rules.embed.output, dataset=names),
        *every_training(rules.train.output),
        *every_cell(rules.refine.output),
        *every_cell(rules.score.output),
        *rules.audit.output,
    ]


def shown_cells(pattern):
    """Return the files of the cells whose objects the report shows, one for each data set."""
    return expand(pattern, **shown_axes(CONFIG))


def growing(amount):
    """Return a resource that grows with each attempt of a job.

    Rules request several times the memory that was measured, because slices may be larger. The measured value stands
    beside each request: `max_rss` in `results/benchmarks/STAGE/`, MB, with `micro` and slices of 512 × 512 pixels. Rules
    with a network request what vit_h needs while its weights are loaded, and room for CUDA (`python -m benchmarks.memory`).
    """
    return lambda wildcards, attempt: amount * attempt


def memory_of_convert(wildcards, attempt):
    """Return the memory of `convert` in MB (measured: 120). Random crops are drawn from all images in memory."""
    return (8000 if DATASETS[wildcards.dataset].crops else 1000) * attempt


def stamps_of_files(wildcards):
    """Return a key of the sizes and times of a user's files. Snakemake itself notices only files newer than the results."""
    files = map(Path, users_files(DATASETS[wildcards.dataset]))
    stamps = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    return key_of(stamps)


def of_set(key):
    """Return the value of a key of the section `segment` for a set."""
    return lambda wildcards: SETS[wildcards.set].segment.plain()[key]


def shards_of_segment(wildcards):
    """Return the files of the stage segment for a set, one for each shard."""
    return expand(rules.segment.output.iterations, set=wildcards.set, shard=range(SETS[wildcards.set].segment.shards))


def checkpoint_of(wildcards):
    """Return the file of a backbone's weights that the configuration names, or nothing if it names none."""
    return backbone_of(CONFIG, wildcards.backbone).checkpoint or []


def model_of(wildcards):
    """Return the backbone of a set, and the file of its model unless that is the backbone as released."""
    model, backbone = SETS[wildcards.set].model, SETS[wildcards.set].backbone
    files = {"weights": f"<results>/weights/{backbone}.json"}
    if isinstance(model, TrainedModel):
        model = weights_file(CONFIG, model.dataset, model.model, model.seed)
    return files | {"model": model} if model else files
