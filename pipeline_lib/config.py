"""What fills a config in, and which files it names."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline_lib.data.paths import files_of
from pipeline_lib.errors import DataError

SPLITS = ("train", "validation", "test")
PROMPT_PARTS = ("corner_embeddings", "deviation_token")


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
        # as a whole: a range or percentiles
        section["grey"] = own.get("segment", {}).get("grey", config["segment"]["grey"])
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
