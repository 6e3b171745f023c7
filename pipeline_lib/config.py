"""What a schema cannot say about a config: that its parts fit each other."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from pipeline_lib.errors import DataError

SPLITS = ("train", "validation", "test")


def check_config(config: dict[str, Any]) -> None:
    """Raise DataError with every contradiction found in a config that already fits its schema."""
    problems = [*_unknown_names(config), *_broken_models(config), *_broken_mixes(config), *_broken_datasets(config)]
    if problems:
        raise DataError("config: " + "; ".join(problems))


def _unknown_names(config: dict[str, Any]) -> Iterator[str]:
    for name in config["tables"]:
        if name not in config["datasets"]:
            yield f"tables names the data set {name!r}, but datasets has only {sorted(config['datasets'])}"
    for name, model in config["models"].items():
        if model["mix"] not in config["train"]["mixes"]:
            yield f"models.{name}.mix is {model['mix']!r}, but train.mixes has only {sorted(config['train']['mixes'])}"
    if config["deviation"]["law"] == "translate" and config["deviation"]["sign"] != "both":
        yield f"deviation.sign {config['deviation']['sign']!r} means nothing to the law 'translate'; expected 'both'"


def _broken_models(config: dict[str, Any]) -> Iterator[str]:
    for name, model in config["models"].items():
        if ("deviation_token" in model["trains"]) != (model["token_width"] is not None):
            yield f"models.{name}: token_width {model['token_width']} does not fit trains {model['trains']}"


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
