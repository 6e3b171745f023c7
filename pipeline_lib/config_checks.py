"""What a schema cannot say about a config: that its files say nothing twice, that its parts fit each other."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators

from pipeline_lib.config import SPLITS, settings
from pipeline_lib.errors import DataError

MOST_ENTRIES = 100_000  # of a config file


def check_files(paths: Iterable[str | Path]) -> None:
    """Look at config files as they are written, before what they say is merged.

    Raises:
        DataError: a file has a key twice, of which YAML keeps the last, or repeats itself by aliases beyond all bounds.
    """
    for path in paths:
        if Path(path).suffix == ".json":
            continue
        try:
            root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:  # brackets without end
            raise DataError(f"{path}: expected YAML: {error}") from error
        if root is not None and _expanded(root, path, {}) > MOST_ENTRIES:
            raise DataError(f"{path}: it has more than {MOST_ENTRIES:,} entries, with those that its aliases stand for")


def _expanded(node: yaml.Node, path: str | Path, known: dict[int, int]) -> int:
    """How many entries a node has with those that its aliases stand for."""
    if id(node) not in known:
        known[id(node)] = MOST_ENTRIES + 1  # of a node within itself
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            keys = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            for (_, key), count in keys.items():
                if count > 1:
                    line = node.start_mark.line + 1
                    raise DataError(f"{path}: the key {key!r} is there twice in the section that begins at line {line}")
            children = [value for _, value in node.value]
        known[id(node)] = 1 + sum(_expanded(child, path, known) for child in children)
    return known[id(node)]


def check_numbers(config: dict[str, Any], schema: str | Path) -> None:
    """Hold a config's numbers to the schema more strictly than JSON does.

    Raises:
        DataError: naming the keys that are NaN or infinite, or 1.0 where a whole number is expected.
    """
    numbers = {
        "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
        "number": lambda _, value: (
            isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        ),
    }
    strict = validators.extend(
        Draft202012Validator, type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(numbers)
    )
    rules = yaml.safe_load(Path(schema).read_text(encoding="utf-8"))
    problems = [f"{'.'.join(map(str, path))} is {value!r}" for path, value in _odd_numbers(config)]
    problems += [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in strict(rules).iter_errors(config)
    ]
    if problems:
        raise DataError("config: " + "; ".join(problems))


def _odd_numbers(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], float]]:
    """NaN and infinity, which no schema of alternatives names."""
    if isinstance(part, float) and not math.isfinite(part):
        yield path, part
    elif isinstance(part, dict | list):
        for key, value in part.items() if isinstance(part, dict) else enumerate(part):
            yield from _odd_numbers(value, (*path, key))


def check_config(config: dict[str, Any]) -> None:
    """Raise DataError with every contradiction found in a config that already fits its schema."""
    problems = [
        *_broken_experiment(config),
        *_unknown_names(config),
        *_broken_models(config),
        *_broken_mixes(config),
        *_broken_datasets(config),
        *_broken_sets(config),
    ]
    if problems:
        raise DataError("config: " + "; ".join(problems))


def _broken_experiment(config: dict[str, Any]) -> Iterator[str]:
    if config["experiment"]["objects"] and config["miou"] == "foreground":
        yield "experiment.objects takes some objects of a tile, but miou is 'foreground', which is of all together"


def _unknown_names(config: dict[str, Any]) -> Iterator[str]:
    for section in ("datasets", "models"):
        for name in config["experiment"][section]:
            if name not in config[section]:
                yield f"experiment.{section} names {name!r}, but {section} has only {sorted(config[section])}"
    trained = sorted(name for name, model in config["models"].items() if "weights_of" not in model)
    for name, model in config["models"].items():
        if "weights_of" in model and model["weights_of"] not in trained:
            yield f"models.{name}.weights_of is {model['weights_of']!r}, but trained are only {trained}"
        if model.get("mix") not in [None, *config["train"]["mixes"]]:
            yield f"models.{name}.mix is {model['mix']!r}, but train.mixes has only {sorted(config['train']['mixes'])}"


def _broken_models(config: dict[str, Any]) -> Iterator[str]:
    for name, model in config["models"].items():
        for key, part in (("token", "deviation_token"), ("adapter", "image_adapter")):
            if key in model and part not in model["trains"]:
                yield f"models.{name}.{key} is set, but it trains {model['trains']} and no {part}"
    places = {"": {}} | {f"models.{name}.": model for name, model in config["models"].items()}
    for place, model in places.items():
        kind, direction = (settings(config, model, "deviation")[key] for key in ("kind", "direction"))
        if kind == "translate" and direction != "both":
            yield f"{place}deviation.direction {direction!r} means nothing to the kind 'translate'; expected 'both'"


def _broken_mixes(config: dict[str, Any]) -> Iterator[str]:
    for name, mix in config["train"]["mixes"].items():
        if len(mix["levels"]) != len(mix["shares"]):
            yield f"train.mixes.{name} has {len(mix['levels'])} levels but {len(mix['shares'])} shares"
        if abs(sum(mix["shares"]) - 1) > 1e-6:
            yield f"train.mixes.{name}.shares sum to {sum(mix['shares']):g}, expected 1"
    for name, model in config["models"].items():
        direction = settings(config, model, "deviation")["direction"]
        if direction != "both" and "translate" in config["train"]["mixes"].get(model.get("mix"), {}).get("kinds", []):
            yield f"models.{name}.mix draws the kind 'translate', to which direction {direction!r} means nothing"


def _broken_datasets(config: dict[str, Any]) -> Iterator[str]:
    for name in config["experiment"]["datasets"]:
        dataset = config["datasets"].get(name, {"volumes": []})
        present = {split for volume in dataset["volumes"] for split in volume["split"]}
        missing = [split for split in SPLITS if split not in present]
        if dataset["volumes"] and missing:
            yield f"datasets.{name}.volumes give no slices to {missing}"
        if dataset.get("grey_range") and dataset["grey_range"][0] >= dataset["grey_range"][1]:
            yield f"datasets.{name}.grey_range is {dataset['grey_range']}, expected [black, white] with black < white"
        for volume in dataset["volumes"]:
            yield from _broken_ranges(f"datasets.{name} ({volume['images']})", volume["split"])


def _broken_sets(config: dict[str, Any]) -> Iterator[str]:
    for name, own in config["predict"].items():
        model = own["model"] if isinstance(own["model"], dict) else {}
        for key, known in (
            ("dataset", [known for known, dataset in config["datasets"].items() if not dataset.get("folds")]),
            ("model", config["models"]),
            ("seed", config["experiment"]["seeds"]),
        ):
            if model and model[key] not in known:
                yield f"predict.{name}.model.{key} is {model[key]!r}, expected one of {sorted(known)}"


def _broken_ranges(where: str, split: dict[str, list[int]]) -> Iterator[str]:
    """Ranges must hold a slice, and no slice may lie in two of them."""
    ranges = sorted((start, stop, name) for name, (start, stop) in split.items())
    for start, stop, name in ranges:
        if stop <= start:
            yield f"{where}: split {name} [{start}, {stop}] is empty"
    for (_, stop, name), (start, _, following) in pairwise(ranges):
        if start < stop:
            yield f"{where}: slices {start} to {stop} are in both {name} and {following}"
