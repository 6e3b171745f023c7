"""Read the default configuration, for commands that do not use Snakemake."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pipeline_lib.config.overlays import merged, overlaid, overlay_problems
from pipeline_lib.errors import DataError
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.messages import problems_of
from pipeline_lib.settings.segment import SegmentConfig

LIBRARY = Path(__file__).parents[1]
# An installed package has it within the library (pyproject.toml), a clone has it at its root
PLACES = (LIBRARY / "config.yaml", LIBRARY.parent / "config.yaml")
SECTIONS = ("segment", "refine")


def default_config() -> dict[str, Any]:
    """Return all keys of `config.yaml`, as plain values."""
    config: dict[str, Any] = yaml.safe_load(next(place for place in PLACES if place.exists()).read_text())
    return config


def segmentation(overlay: Mapping[str, Any]) -> tuple[SegmentConfig, RefineConfig]:
    """Return the sections `segment` and `refine` for a segmentation.

    Args:
        overlay: Keys of the two sections that differ from the defaults.

    Returns:
        The section `segment`, and the section `refine` with the keys of `segment.refine`.

    Raises:
        DataError: A section or key is unknown, or a key has a wrong value. The message names all of them.
    """
    if not isinstance(overlay, dict) or not overlay.keys() <= set(SECTIONS):
        unknown = (
            [f"{key} is an unknown key" for key in overlay if key not in SECTIONS] if isinstance(overlay, dict) else []
        )
        problem = "; ".join(unknown) or f"the file is {overlay!r}"
        raise DataError(f"config: {problem}; expected the sections {' and '.join(SECTIONS)}")
    config = merged(default_config(), overlay)
    problems = [
        *problems_of(SegmentConfig, config["segment"], "segment"),
        *problems_of(RefineConfig, config["refine"], "refine"),
        *overlay_problems({section: config[section] for section in SECTIONS}),
    ]
    if problems:
        raise DataError("config: " + "; ".join(problems))
    segment = SegmentConfig.model_validate(config["segment"])
    return segment, overlaid(RefineConfig, RefineConfig.model_validate(config["refine"]), segment.refine)
