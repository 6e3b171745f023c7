"""LooseBox: Segment Anything that tolerates loose boxes on electron-microscopy images."""

from typing import Any

__all__ = ["load_segmenter"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, because importing torch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline_lib import api

    return getattr(api, name)
