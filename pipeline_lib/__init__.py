"""LooseBox: Segment Anything that tolerates loose boxes on electron-microscopy images."""

from typing import Any

__all__ = ["load_segmenter"]


def __getattr__(name: str) -> Any:
    """What the package offers, imported when it is used: torch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline_lib import api

    return getattr(api, name)
