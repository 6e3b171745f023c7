from pathlib import Path

from pipeline_lib.config import settings, users_files


wildcard_constraints:
    dataset="|".join(config["datasets"]),
    model="|".join(config["models"]),
    seed="|".join(map(str, config["seeds"])),
    level="|".join(map(str, config["levels"])),


def dataset_keys(*keys):
    """Only those keys of a data set that matter, so that a change of another one redoes nothing."""
    return lambda wildcards: {key: config["datasets"][wildcards.dataset][key] for key in keys}


def every_cell(pattern):
    """The files of a stage for each data set, model, seed and level of the experiment."""
    axes = {"dataset": config["tables"], "model": config["rows"], "seed": config["seeds"], "level": config["levels"]}
    return expand(pattern, **axes)


def every_training(pattern):
    """The files of the stage train for each data set, trained model and seed of the experiment."""
    trained = dict.fromkeys(map(trained_by, config["rows"]))
    return expand(pattern, dataset=config["tables"], model=trained, seed=config["seeds"])


def shown_cells(pattern):
    """The files of the cell whose objects the report shows, of each data set: proposed, or else the last row."""
    model = "proposed" if "proposed" in config["rows"] else config["rows"][-1]
    cell = {"model": model, "seed": config["seeds"][0], "level": max(config["levels"])}
    return expand(pattern, dataset=config["tables"], **cell)


def experiment():
    """What the tables show, in their order."""
    parts = {
        "datasets": (config["tables"], ("title", "published")),
        "models": (config["rows"], ("title", "prompt_tuning")),
    }
    named = {
        section: {name: {key: config[section][name][key] for key in keys} for name in names}
        for section, (names, keys) in parts.items()
    }
    return named | {key: config[key] for key in ("levels", "miou", "claims")}


def checkpoint():
    """The backbone's checkpoint where it is a file already, so that a change of it is noticed."""
    name, given = config["backbone"]["name"], config["backbone"]["checkpoint"]
    shipped = Path(workflow.basedir) / f"pipeline_lib/model/{name}.safetensors"
    return given or (shipped if shipped.exists() else [])


def training_of(name):
    """All that decides a training but data set and seed; an unused mix must not train again."""
    model = config["models"][name]
    train = settings(config, model, "train")
    return {
        "variant": {
            "trains": model["trains"],
            "token": model["token"],
            "mix": train["mixes"][model["mix"]],
        },
        "settings": {key: value for key, value in train.items() if key not in ("mixes", "validation_levels")},
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
            "trained": trained_by(name),
            "training": training_of(trained_by(name)),
            "deviation": settings(config, config["models"][name], "deviation"),
        }
        for name in config["rows"]
    }


def settings_of(section):
    """A section of the config as it holds for a model."""
    return lambda wildcards: settings(config, config["models"][wildcards.model], section)


def trained_by(model):
    """The model whose weights a model has: its own, or borrowed ones."""
    return config["models"][model].get("weights_of", model)


def growing(amount):
    """A resource of which a job gets more each time it is tried again.

    Of memory, rules ask for some times what was measured (`max_rss` in `results/benchmarks/STAGE/`, MB, on `micro` and
    slices of 512 × 512 pixels, beside each), as slices may be larger. Where a network is used that is what vit_h needs
    while its weights are loaded, with room for CUDA: `python -m benchmarks.memory`.
    """
    return lambda wildcards, attempt: amount * attempt
