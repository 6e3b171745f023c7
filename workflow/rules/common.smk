from pathlib import Path

from pipeline_lib.runtime.code_digest import code_digest
from pipeline_lib.config import (
    image_sets,
    is_prompt_tuned,
    parts_of_datasets,
    settings,
    trained_by,
    users_files,
    within_data,
)
from pipeline_lib.data.paths import files_of
from pipeline_lib.runtime.hashing import key_of

DATASETS = within_data(config)
SETS = image_sets(config)


wildcard_constraints:
    dataset="|".join(config["datasets"]),
    model="|".join(config["models"]),
    seed="|".join(map(str, config["experiment"]["seeds"])),
    level="|".join(map(str, config["experiment"]["levels"])),
    set="|".join(SETS) or "none",
    shard="[0-9]+",


def code_of(stage):
    """A digest of the code that a stage runs: an edit there redoes it, an edit elsewhere or of a comment does not."""
    return code_digest(f"pipeline_lib.stages.{stage}")


def dataset_keys(*keys):
    """Only those keys of a data set that matter, so that a change of another one redoes nothing."""
    return lambda wildcards: {key: DATASETS[wildcards.dataset][key] for key in keys}


def every_cell(pattern):
    """The files of a stage for each data set, model, seed and level of the experiment."""
    run = config["experiment"]
    axes = {"dataset": run["datasets"], "model": run["models"], "seed": run["seeds"], "level": run["levels"]}
    return expand(pattern, **axes)


def every_dataset(pattern):
    """The files of a stage for each data set of the experiment."""
    return expand(pattern, dataset=config["experiment"]["datasets"])


def every_training(pattern):
    """The files of the stage train for each data set, trained model and seed of the experiment."""
    run = config["experiment"]
    trained = dict.fromkeys(trained_by(config, model) for model in run["models"])
    return expand(pattern, dataset=run["datasets"], model=trained, seed=run["seeds"])


def every_result():
    """The results of all stages that the tables rest on."""
    return [
        *rules.weights.output,
        *every_dataset(rules.raw.output),
        *every_dataset(rules.convert.output),
        *every_dataset(rules.boxes.output),
        *every_dataset(rules.embed.output),
        *every_training(rules.train.output),
        *every_cell(rules.refine.output),
        *every_cell(rules.score.output),
        *rules.audit.output,
    ]


def shown_cells(pattern):
    """The files of the cell whose objects the report shows, of each data set: proposed, or else the last model."""
    run = config["experiment"]
    model = "proposed" if "proposed" in run["models"] else run["models"][-1]
    return expand(pattern, dataset=run["datasets"], model=model, seed=run["seeds"][0], level=max(run["levels"]))


def tested():
    """Which objects of each data set the tables are about."""
    return {key: config["experiment"][key] for key in ("split", "objects")}


def experiment():
    """What the tables show, in their order."""
    run = config["experiment"]
    return {
        "datasets": {
            name: {key: config["datasets"][name][key] for key in ("title", "published")} | {"parts": parts}
            for name, parts in parts_of_datasets(config).items()
        },
        "models": {
            name: {"title": config["models"][name]["title"], "prompt_tuned": is_prompt_tuned(config, name)}
            for name in run["models"]
        },
        **{key: run[key] for key in ("levels", "seeds", "split", "objects")},
        **{key: config[key] for key in ("miou", "claims")},
    }


def training_of(name):
    """All that decides a training but data set and seed; an unused mix must not train again."""
    model = config["models"][name]
    train = settings(config, model, "train")
    refine = settings(config, model, "refine")
    # what the iterations of training have in common with those of inference
    iteration = {"largest_component": refine["largest_component"]} if train["unrolled_iterations"] else {}
    # left out where there is none, so that trainings from before there were any still count
    adapter = {"adapter": settings(config, model, "adapter")} if "image_adapter" in model["trains"] else {}
    return {
        "model_config": {
            "trains": model["trains"],
            "token": settings(config, model, "token") if "deviation_token" in model["trains"] else None,
            "mix": train["mixes"][model["mix"]],
            **adapter,
        },
        "settings": {key: value for key, value in train.items() if key not in ("mixes", "validation_levels")}
        | iteration,
        "deviation": settings(config, model, "deviation"),
        "levels": train["validation_levels"],
    }


def part_of_training(key):
    """A part of what decides a training."""
    return lambda wildcards: training_of(wildcards.model)[key]


def audited_rows():
    """What the audit must know of each row of the tables."""
    return {
        name: {
            "trained": trained_by(config, name),
            "training": training_of(trained_by(config, name)),
            "deviation": settings(config, config["models"][name], "deviation"),
        }
        for name in config["experiment"]["models"]
    }


def settings_of(section):
    """A section of the config as it holds for a model."""
    return lambda wildcards: settings(config, config["models"][wildcards.model], section)


def growing(amount):
    """A resource of which a job gets more each time it is tried again.

    Of memory, rules ask for some times what was measured (`max_rss` in `results/benchmarks/STAGE/`, MB, on `micro` and
    slices of 512 × 512 pixels, beside each), as slices may be larger. Where a network is used that is what vit_h needs
    while its weights are loaded, with room for CUDA: `python -m benchmarks.memory`.
    """
    return lambda wildcards, attempt: amount * attempt


def stamps_of_files(wildcards):
    """Sizes and times of a user's own files: Snakemake alone notices only files that are newer than the results."""
    files = map(Path, users_files(DATASETS[wildcards.dataset]))
    known = [(file.stat().st_size, file.stat().st_mtime_ns) for file in files if file.exists()]
    return key_of(known)


def of_set(key):
    """What the config says of a set of images."""
    return lambda wildcards: SETS[wildcards.set][key]


def of_segment(*keys):
    """Those keys of a set's section `segment` that matter to a stage, so that a change of another one redoes nothing."""
    return lambda wildcards: {key: SETS[wildcards.set]["segment"][key] for key in keys}


def model_of(wildcards):
    """The file of the model that segments a set; none where that is the backbone as it is."""
    model = SETS[wildcards.set]["model"]
    if isinstance(model, dict):
        trained = trained_by(config, model["model"])
        return {"model": f"<results>/train/{model['dataset']}/{trained}/{model['seed']}.safetensors"}
    return {"model": model} if model else {}


def given_files(wildcards):
    """A set's files of images and of boxes."""
    own = SETS[wildcards.set]
    return [str(file) for path in [own["images"], *own["boxes"]] for file in files_of(path)]
