"""Merge overlays: sections whose keys replace those of another section."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from pipeline_lib.errors import DataError
from pipeline_lib.settings.base import Settings
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.messages import problems_of
from pipeline_lib.settings.model import Adapter, Token
from pipeline_lib.settings.segment import SegmentConfig
from pipeline_lib.settings.training import TrainConfig

S = TypeVar("S", bound=Settings)
OVERLAYS_OF_MODELS: dict[str, type[Settings]] = {  # sections of a model that are overlays
    "token": Token,
    "adapter": Adapter,
    "deviation": Deviation,
    "train": TrainConfig,
    "refine": RefineConfig,
}
SHARED = {"train": ("precision", "validation_levels", "validation_objects"), "refine": ("precision",)}
OF_TRAINING = ("trains", "mix", "trained_on", "starts_from", "token", "adapter", "train")  # keys of a trained model
WHOLE = ("grey", "trained_on")  # sections that are replaced as a whole


def merged(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the entries of an overlay. Sections in both are merged key by key, except those of `WHOLE`."""
    entries = {
        key: merged(base[key], value)
        if isinstance(base.get(key), dict) and isinstance(value, dict) and key not in WHOLE
        else value
        for key, value in overlay.items()
    }
    return {**base, **entries}


def overlaid(kind: type[S], base: Settings, overlay: Mapping[str, Any]) -> S:
    """Return settings of a class, with the keys of an overlay in place of those of `base`.

    `base` can have more keys than the class `kind`.
    """
    return kind.model_validate(merged(base.model_dump(include=set(kind.model_fields)), overlay))


def with_likes(models: Any) -> Any:
    """Return models by name, after resolving `like`: a model copies the entries that it does not set.

    Raises:
        DataError: A model is like one that does not exist, or like itself.
    """

    def fill(name: str, descendants: tuple[str, ...]) -> Any:
        if not isinstance(models[name], dict) or "like" not in models[name]:
            return models[name]
        entries = dict(models[name])
        like = entries.pop("like")
        if not isinstance(like, str) or like not in models:
            raise DataError(f"config: models.{name}.like is {like!r}, but models has only {sorted(map(str, models))}")
        if like in (name, *descendants):
            raise DataError(f"config: models.{name}.like leads back to {like!r}; remove one `like`")
        base = fill(like, (name, *descendants))
        if not isinstance(base, dict):
            raise DataError(f"config: models.{like} is {base!r}, expected a section with the keys of a model")
        # If a model says where its weights come from, it does not copy keys about other weights
        if kind := entries.keys() & {"weights_of", "file", "trains"}:
            others = {"weights_of", "file"} - kind
            dropped = others if "trains" in kind else {*others, *OF_TRAINING}
            base = {key: value for key, value in base.items() if key not in dropped}
        return merged(base, entries)

    return {name: fill(name, ()) for name in models} if isinstance(models, dict) else models


def overlay_problems(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for each wrong key of the overlays in a configuration.

    Other checks report values that should be sections, and wrong values in the sections below the overlays.
    """
    for name, model in _section(config, "models").items():
        for section, kind in OVERLAYS_OF_MODELS.items():
            base, overlay = _section(config, section), _section(model, section)
            yield from _problems(kind, base, overlay, f"models.{name}.{section}", SHARED.get(section, ()))
    segment = _section(config, "segment")
    yield from _refine_problems(config, segment, "segment")
    for name, each in _section(config, "predict").items():
        overlay = _section(each, "segment")
        yield from _problems(SegmentConfig, segment, overlay, f"predict.{name}.segment")
        yield from _refine_problems(config, overlay, f"predict.{name}.segment")


def _refine_problems(config: Mapping[str, Any], segment: Mapping[str, Any], path: str) -> Iterator[str]:
    base, overlay = _section(config, "refine"), _section(segment, "refine")
    yield from _problems(RefineConfig, base, overlay, f"{path}.refine", SHARED["refine"])


def _problems(
    kind: type[Settings],
    base: Mapping[str, Any],
    overlay: Mapping[str, Any],
    path: str,
    shared: Collection[str] = (),
) -> Iterator[str]:
    for key in overlay:
        if key in shared:
            yield f"{path}.{key} is set, but {key} must be the same for all models; set it in `{path.split('.')[-1]}`"
    entries = {key: value for key, value in overlay.items() if key not in shared}
    section = {key: value for key, value in base.items() if key in kind.model_fields}
    yield from problems_of(kind, merged(section, entries), path, entries.keys())


def _section(holder: Any, name: str) -> dict[str, Any]:
    section = holder.get(name) if isinstance(holder, dict) else None
    return section if isinstance(section, dict) else {}
