"""Convert the content of configuration files to settings, and check them."""

from typing import Any

from pipeline_lib.config.checks import contradictions
from pipeline_lib.config.folds import with_folds
from pipeline_lib.config.overlays import overlay_problems, with_likes
from pipeline_lib.errors import DataError
from pipeline_lib.settings.config import Config
from pipeline_lib.settings.messages import problems_of


def read_config(plain: dict[str, Any]) -> Config:
    """Return the settings of a whole configuration.

    Args:
        plain: All sections, as plain values from YAML. Models can be `like` others.

    Raises:
        DataError: There are problems. The message has a sentence for each, with the path of its key.
    """
    sections = plain | {"models": with_likes(plain["models"])} if "models" in plain else plain
    if problems := [*problems_of(Config, sections), *overlay_problems(sections)]:
        raise DataError("config: " + "; ".join(problems))
    config = Config.model_validate(sections)
    if problems := list(contradictions(with_folds(config))):
        raise DataError("config: " + "; ".join(problems))
    return config
