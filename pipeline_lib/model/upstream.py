"""segment_anything's networks, without the rest of its package.

The package's `__init__` also imports its automatic mask generator and, through torchvision, torch's compiler, which no
stage uses and each job of the workflow would wait for: `python -X importtime -c "import segment_anything"`. So that
`__init__` is put off until somebody asks the package itself for a name.
"""

import sys
from importlib.util import find_spec, module_from_spec
from typing import Any


def put_off(name: str) -> None:
    """Make a package's submodules importable; its own `__init__` runs when a name is first sought in the package.

    Raises:
        ModuleNotFoundError: there is no such package.
    """
    if name in sys.modules:
        return
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    package, loader = module_from_spec(spec), spec.loader

    def seek(attribute: str) -> Any:
        if attribute.startswith("__"):  # the import system and inspection ask for these
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        vars(package).pop("__getattr__", None)
        loader.exec_module(package)
        return getattr(package, attribute)

    vars(package)["__getattr__"] = seek
    sys.modules[name] = package


# The import of the stage refine takes 3.3 CPU s, and 5.5 without this line (AMD EPYC, AVX-512, median of 3).
# `make tables` starts such a stage 57 times: this saves 125 of its 580 CPU s.
put_off("segment_anything")

from segment_anything.build_sam import sam_model_registry  # noqa: E402
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer  # noqa: E402
from segment_anything.modeling.common import LayerNorm2d  # noqa: E402
from segment_anything.modeling.image_encoder import window_partition, window_unpartition  # noqa: E402
from segment_anything.modeling.transformer import Attention  # noqa: E402

__all__ = [
    "Attention",
    "ImageEncoderViT",
    "LayerNorm2d",
    "MaskDecoder",
    "PromptEncoder",
    "Sam",
    "TwoWayTransformer",
    "sam_model_registry",
    "window_partition",
    "window_unpartition",
]
