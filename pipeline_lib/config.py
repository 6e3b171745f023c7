"""What a schema cannot say about a config: that its parts fit each other, and which files it names."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators

from pipeline_lib.data.paths import files_of
from pipeline_lib.errors import DataError

SPLITS = ("train", "validation", "test")
PROMPT_PARTS = ("corner_embeddings", "deviation_token")
MOST_ENTRIES = 100_000  # of a config file
RENAMED = {  # keys of version 0.1
    "tables": "experiment.datasets",
    "rows": "experiment.models",
    "seeds": "experiment.seeds",
    "levels": "experiment.levels",
    "deviation.law": "deviation.kind",
    "deviation.sign": "deviation.direction",
    "prompt_tuning": "nothing (it follows from trains)",
    "train.images_per_step": "train.tiles_per_step",
    "train.objects_per_image": "train.objects_per_tile",
    "train.warm_up": "train.warmup_steps",
    "train.clip": "train.grad_clip",
    "train.passes": "train.unrolled_iterations (one less)",
    "refine.passes": "refine.max_iterations",
    "refine.output": "refine.select",
    "refine.chunk": "refine.objects_per_batch",
    "claims.slight_loss": "claims.max_loss",
    "claims.far_more": "claims.min_gain_ratio",
    "claims.little_time": "claims.max_time_ratio",
}
REPLACED = {  # values of version 0.1, and what to write in their place
    ("token", None): "no `token`",
    ("miou", "image"): "`miou: tile`",
}


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


def with_folds(config: dict[str, Any]) -> dict[str, Any]:
    """The sections `datasets` and `experiment`, with each data set that the experiment names and has `folds` cut up.

    Each fold is a data set of its own, NAME_1, NAME_2, …, `fold_of` NAME, with the volumes of `fold`.

    Raises:
        DataError: another data set has a fold's name, or a volume cannot be cut.
    """
    datasets = dict(config["datasets"])
    names: list[str] = []
    for name in config["experiment"]["datasets"]:
        whole = config["datasets"].get(name, {})
        count = whole.get("folds") or 0
        folds = [f"{name}_{number + 1}" for number in range(count)]
        if taken := sorted(config["datasets"].keys() & folds):
            raise DataError(f"config: datasets.{name} has folds, but there is a data set called {taken[0]} already")
        for number, own in enumerate(folds):
            volumes = [part for volume in whole["volumes"] for part in fold(name, volume, number, count)]
            title = f"{whole['title']}, fold {number + 1} of {count}"
            datasets[own] = whole | {
                "title": title,
                "published": None,
                "volumes": volumes,
                "folds": None,
                "fold_of": name,
            }
        names += folds or [name]
    return {"datasets": datasets, "experiment": config["experiment"] | {"datasets": names}}


def fold(dataset: str, volume: dict[str, Any], number: int, count: int) -> list[dict[str, Any]]:
    """A volume of which block `number` of `count` is tested, the next one validated on, the others trained on.

    Blocks are of slices one after the other, from the first to the last of the volume's splits; next to the last block
    is the first. What is trained on may lie on both sides of the two, and then there are two volumes of the same files.
    """
    ranges, every = sorted(volume["split"].values()), volume.get("every", 1)
    (first, _), (_, last) = ranges[0], ranges[-1]
    slices = len(range(first, last, every))
    where = f"config: datasets.{dataset} ({volume['images']})"
    if any(stop != start for (_, stop), (start, _) in pairwise(ranges)):
        raise DataError(f"{where}: folds take slices in one run, but the splits are {ranges}")
    if slices < count:
        raise DataError(f"{where}: {count} folds are expected of its {slices} slices; give at most {slices}")
    edges = [*(first + every * (slices * block // count) for block in range(count)), last]
    blocks = list(pairwise(edges))
    test, validation = blocks[number], blocks[(number + 1) % count]
    low, high = sorted([test, validation])
    sides = [(first, low[0]), (low[1], high[0]), (high[1], last)]
    train, *further = ([start, stop] for start, stop in sides if start < stop)
    split = {"train": train, "validation": [*validation], "test": [*test]}
    return [volume | {"split": split}, *(volume | {"split": {"train": part}} for part in further)]


def parts_of_datasets(config: dict[str, Any]) -> dict[str, list[str]]:
    """The data sets of the tables, and those of the experiment that each is made from: its folds, or itself.

    One that was cut up stands before its folds.
    """
    parts: dict[str, list[str]] = {}
    for name in config["experiment"]["datasets"]:
        if whole := config["datasets"][name].get("fold_of"):
            parts.setdefault(whole, []).append(name)
        parts[name] = [name]
    return parts


def ordered(datasets: dict[str, Any]) -> dict[str, Any]:
    """Data sets with the ranges of their splits in one order, so that another order of the same redoes nothing."""
    return {
        name: dataset
        | {
            "volumes": [
                volume | {"split": {split: volume["split"][split] for split in SPLITS if split in volume["split"]}}
                for volume in dataset["volumes"]
            ]
        }
        for name, dataset in datasets.items()
    }


def users_files(dataset: dict[str, Any]) -> list[str]:
    """A user's own files that a data set names; none where its files are generated or downloaded."""
    if dataset["source"]["kind"] != "path":
        return []
    folder = Path(dataset["source"]["folder"]).expanduser()
    stacks = {folder / volume[part] for volume in dataset["volumes"] for part in ("images", "labels")}
    return [str(file) for stack in sorted(stacks) for file in files_of(stack)]


def within_data(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The data sets, those of users' own files with their folder sought in `data`."""
    data = Path(config["data"]).expanduser()
    return {
        name: merged(dataset, {"source": {"folder": str(data / Path(dataset["source"]["folder"]).expanduser())}})
        if dataset["source"]["kind"] == "path"
        else dataset
        for name, dataset in config["datasets"].items()
    }


def image_sets(config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The sets of `predict`: paths sought in `data`, boxes as a list, `segment` and `refine` as they hold for a set."""
    data = Path(config["data"]).expanduser()
    sets = {}
    for name, own in config["predict"].items():
        boxes = [own["boxes"]] if isinstance(own["boxes"], str) else own["boxes"]
        model = config["models"][own["model"]["model"]] if isinstance(own["model"], dict) else {}
        section = settings(config, own, "segment")
        section["grey"] = own.get("segment", {}).get(
            "grey", config["segment"]["grey"]
        )  # as a whole: a range or percentiles
        sets[name] = {
            "images": str(data / Path(own["images"]).expanduser()),
            "boxes": [str(data / Path(path).expanduser()) for path in boxes],
            "model": own["model"],
            "segment": section,
            "refine": merged(settings(config, model, "refine"), section["refine"]),
        }
    return sets


def settings(config: dict[str, Any], model: dict[str, Any], section: str) -> dict[str, Any]:
    """A section of the config with what a model lays over it."""
    return merged(config[section], model.get(section, {}))


def merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """`base` with the entries of `own` laid over it, those of their common sections one by one."""
    both = {
        key: merged(base[key], value) if isinstance(base.get(key), dict) and isinstance(value, dict) else value
        for key, value in own.items()
    }
    return base | both


def with_likes(models: Any) -> Any:
    """Models by name, each that is `like` another with that one's entries beneath its own.

    Raises:
        DataError: a model is like one that does not exist, or like itself.
    """

    def filled(name: str, behind: tuple[str, ...]) -> dict[str, Any]:
        if not isinstance(models[name], dict) or "like" not in models[name]:
            return models[name]  # type: ignore[no-any-return]  # of another type: the schema will say so
        own = dict(models[name])
        like = own.pop("like")
        if not isinstance(like, str) or like not in models:
            raise DataError(f"config: models.{name}.like is {like!r}, but models has only {sorted(models)}")
        if like in (name, *behind):
            raise DataError(f"config: models.{name}.like leads back to {like!r}")
        base = filled(like, (name, *behind))
        if "weights_of" in own:  # not trained itself
            base = {
                key: value for key, value in base.items() if key not in ("trains", "mix", "token", "adapter", "train")
            }
        return merged(base, own)

    return {name: filled(name, ()) for name in models} if isinstance(models, dict) else models


def trained_by(config: dict[str, Any], model: str) -> str:
    """The model whose weights a model has: its own, or borrowed ones."""
    borrowed: str = config["models"][model].get("weights_of", model)
    return borrowed


def is_prompt_tuned(config: dict[str, Any], model: str) -> bool:
    """Whether a part that makes prompts was trained for a model: the column P of the tables."""
    trains = config["models"][trained_by(config, model)]["trains"]
    return any(part in PROMPT_PARTS for part in trains)


def refuse_old_keys(config: dict[str, Any]) -> None:
    """Raise DataError where a config of version 0.1 has a key or value that is written otherwise now; say how."""
    models = config["models"] if isinstance(config.get("models"), dict) else {}
    places = {"": config} | {f"models.{name}.": model for name, model in models.items()}
    problems = [
        f"{place}{old} is called {new} now"
        for place, holder in places.items()
        for old, new in RENAMED.items()
        if _has(holder, old.split(".")) and not (place and "." not in old and old != "prompt_tuning")
    ]
    problems += [
        f"in place of `{place}{key}: {'null' if old is None else old}` write {new}"
        for place, holder in places.items()
        for (key, old), new in REPLACED.items()
        if _has(holder, [key]) and holder[key] == old
    ]
    if problems:
        raise DataError("config: " + "; ".join(problems))


def _has(holder: Any, path: list[str]) -> bool:
    for key in path:
        if not isinstance(holder, dict) or key not in holder:
            return False
        holder = holder[key]
    return True


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
