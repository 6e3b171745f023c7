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
    shipped = Path(workflow.basedir) / f"pipeline_lib/{name}.safetensors"
    return given or (shipped if shipped.exists() else [])


def variant_of(wildcards):
    """What is trained, and on which mix of boxes."""
    model = config["models"][wildcards.model]
    return {
        "trains": model["trains"],
        "token": model["token"],
        "mix": config["train"]["mixes"][model["mix"]],
    }


def settings_of(section):
    """A section of the config as it holds for a model."""
    return lambda wildcards: settings(config, config["models"][wildcards.model], section)


def training_settings(wildcards):
    """All of the section but what other parameters hold: an unused mix must not train again."""
    apart = ("mixes", "validation_levels")
    return {key: value for key, value in settings_of("train")(wildcards).items() if key not in apart}


def trained_by(model):
    """The model whose weights a model has: its own, or borrowed ones."""
    return config["models"][model].get("weights_of", model)
