"""The default configuration, for uses without Snakemake."""

from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.config import merged
from pipeline_lib.errors import DataError

# in an installed package beside this file (pyproject.toml), in a clone at its root
PLACES = (Path(__file__).with_name("config.yaml"), Path(__file__).parents[1] / "config.yaml")
SECTIONS = ("segment", "refine")


def default_config() -> dict[str, Any]:
    """What `config.yaml` says, every key of it."""
    config: dict[str, Any] = yaml.safe_load(next(place for place in PLACES if place.exists()).read_text())
    return config


def laid_over_defaults(own: dict[str, Any]) -> dict[str, Any]:
    """The default configuration with the sections `segment` and `refine` of `own` laid over it.

    Raises:
        DataError: it has another section or a key that the default has not.
    """
    config = default_config()
    known = {section: {**config[section]} for section in SECTIONS}
    known["segment"]["refine"] = config["refine"]
    _check_keys(own, known, "")
    whole = {"grey": own["segment"]["grey"]} if "grey" in own.get("segment", {}) else {}  # a range or percentiles
    laid = merged(config, own)
    return laid | {"segment": laid["segment"] | whole}


def _check_keys(own: Any, known: dict[str, Any], where: str) -> None:
    if not isinstance(own, dict):
        raise DataError(f"config: {where or 'the file'} is {own!r}, expected the keys {', '.join(known)}")
    for key, value in own.items():
        if key not in known:
            raise DataError(f"config: {where}{key} is no key; expected one of {', '.join(known)}")
        if isinstance(known[key], dict):
            _check_keys(value, known[key], f"{where}{key}.")
