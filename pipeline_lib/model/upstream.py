"""Import segment_anything's networks without the rest of its package.

The package's `__init__` also imports the automatic mask generator and, through torchvision, torch's compiler. No stage
uses them, and each job of the workflow would wait for their import
(`python -X importtime -c "import segment_anything"`). So `__init__` runs only when a name of the package is used.
"""

import sys
from importlib.util import find_spec, module_from_spec
from typing import Any


def import_lazily(name: str) -> None:
    """Make the submodules of a package importable, and run its `__init__` when a name of the package is first used.

    Raises:
        ModuleNotFoundError: there is no such package.
    """
    if name in sys.modules:
        return
    spec = find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    package, loader = module_from_spec(spec), spec.loader

    def load_attribute(attribute: str) -> Any:
        if attribute.startswith("__"):  # the import system and inspection ask for these
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        vars(package).pop("__getattr__", None)
        loader.exec_module(package)
        return getattr(package, attribute)

    vars(package)["__getattr__"] = load_attribute
    sys.modules[name] = package


# The import of the stage refine takes 3.3 CPU s, and 5.5 without this line (AMD EPYC, AVX-512, median of 3).
# `make tables` starts such a stage 57 times: this saves 125 of its 580 CPU s.
import_lazily("segment_anything")

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
