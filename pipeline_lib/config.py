"""What a schema cannot say about a config: that its parts fit each other, and which files it names."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline_lib.data.paths import files_of
from pipeline_lib.errors import DataError

SPLITS = ("train", "validation", "test")


def users_files(dataset: dict[str, Any]) -> list[str]:
    """A user's own files that a data set names; none where its files are generated or downloaded."""
    if dataset["source"]["kind"] != "path":
        return []
    folder = Path(dataset["source"]["folder"]).expanduser()
    stacks = {folder / volume[part] for volume in dataset["volumes"] for part in ("images", "labels")}
    return [str(file) for stack in sorted(stacks) for file in files_of(stack)]


def settings(config: dict[str, Any], model: dict[str, Any], section: str) -> dict[str, Any]:
    """A section of the config with what a model lays over it."""
    merged: dict[str, Any] = config[section] | model.get(section, {})
    return merged


def check_config(config: dict[str, Any]) -> None:
    """Raise DataError with every contradiction found in a config that already fits its schema."""
    problems = [*_unknown_names(config), *_broken_models(config), *_broken_mixes(config), *_broken_datasets(config)]
    if problems:
        raise DataError("config: " + "; ".join(problems))


def _unknown_names(config: dict[str, Any]) -> Iterator[str]:
    for name in config["tables"]:
        if name not in config["datasets"]:
            yield f"tables names the data set {name!r}, but datasets has only {sorted(config['datasets'])}"
    for name in config["rows"]:
        if name not in config["models"]:
            yield f"rows names the model {name!r}, but models has only {sorted(config['models'])}"
    trained = sorted(name for name, model in config["models"].items() if "weights_of" not in model)
    for name, model in config["models"].items():
        if "weights_of" in model and model["weights_of"] not in trained:
            yield f"models.{name}.weights_of is {model['weights_of']!r}, but trained are only {trained}"
        if model.get("mix") not in [None, *config["train"]["mixes"]]:
            yield f"models.{name}.mix is {model['mix']!r}, but train.mixes has only {sorted(config['train']['mixes'])}"


def _broken_models(config: dict[str, Any]) -> Iterator[str]:
    for name, model in config["models"].items():
        if "weights_of" not in model and ("deviation_token" in model["trains"]) != (model["token"] is not None):
            yield f"models.{name}: token {model['token']} does not fit trains {model['trains']}"
    places = {"": {}} | {f"models.{name}.": model for name, model in config["models"].items()}
    for place, model in places.items():
        law, sign = (settings(config, model, "deviation")[key] for key in ("law", "sign"))
        if law == "translate" and sign != "both":
            yield f"{place}deviation.sign {sign!r} means nothing to the law 'translate'; expected 'both'"


def _broken_mixes(config: dict[str, Any]) -> Iterator[str]:
    for name, mix in config["train"]["mixes"].items():
        if len(mix["levels"]) != len(mix["shares"]):
            yield f"train.mixes.{name} has {len(mix['levels'])} levels but {len(mix['shares'])} shares"
        if abs(sum(mix["shares"]) - 1) > 1e-6:
            yield f"train.mixes.{name}.shares sum to {sum(mix['shares']):g}, expected 1"


def _broken_datasets(config: dict[str, Any]) -> Iterator[str]:
    for name in config["tables"]:
        dataset = config["datasets"].get(name, {"volumes": []})
        present = {split for volume in dataset["volumes"] for split in volume["split"]}
        missing = [split for split in SPLITS if split not in present]
        if dataset["volumes"] and missing:
            yield f"datasets.{name}.volumes give no slices to {missing}"
        if dataset.get("grey_range") and dataset["grey_range"][0] >= dataset["grey_range"][1]:
            yield f"datasets.{name}.grey_range is {dataset['grey_range']}, expected [black, white] with black < white"
        for volume in dataset["volumes"]:
            yield from _broken_ranges(f"datasets.{name} ({volume['images']})", volume["split"])


def _broken_ranges(where: str, split: dict[str, list[int]]) -> Iterator[str]:
    """Ranges must hold a slice, and no slice may lie in two of them."""
    ranges = sorted((start, stop, name) for name, (start, stop) in split.items())
    for start, stop, name in ranges:
        if stop <= start:
            yield f"{where}: split {name} [{start}, {stop}] is empty"
    for (_, stop, name), (start, _, following) in pairwise(ranges):
        if start < stop:
            yield f"{where}: slices {start} to {stop} are in both {name} and {following}"
