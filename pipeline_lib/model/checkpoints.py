"""Tensors by name from files that are not trusted, and into networks that they must fit."""

from collections.abc import Mapping
from pathlib import Path
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline_lib.errors import WeightsError

NAMED_KEYS = 3  # of each kind of misfit, in an error


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a pickle of nothing but a dictionary of tensors, on the CPU.

    Raises:
        WeightsError: the file is missing or damaged, or a pickle of anything else, which is not executed.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        # PyTorch has written zip files since 1.6. From a mapped file, only tensors that are copied are read, so that a
        # training does not hold the encoder's.
        mapped = is_zipfile(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # whatever a damaged pickle comes to
        raise WeightsError(f"{path}: expected tensors by name (safetensors or a PyTorch pickle): {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"{path}: expected a dictionary of tensors by name and nothing else")
    return tensors


def check_tensors(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Compare names and shapes.

    Raises:
        WeightsError: naming the file and the first keys that are missing, unexpected or of another shape.
    """
    misshapen = (
        f"{key} {tuple(tensors[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in tensors and tensors[key].shape != expected[key].shape
    )
    misfits = {
        "missing": [key for key in expected if key not in tensors],
        "unexpected": [key for key in tensors if key not in expected],
        "misshapen": list(misshapen),
    }
    counts = [f"{len(keys)} {kind} ({', '.join(keys[:NAMED_KEYS])})" for kind, keys in misfits.items() if keys]
    if counts:
        raise WeightsError(f"{path}: does not fit its network: {'; '.join(counts)}")


def check_finite(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Look at every number.

    Raises:
        WeightsError: naming the file and the first keys with one that is NaN or infinite.
    """
    broken = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        named = ", ".join(broken[:NAMED_KEYS])
        raise WeightsError(f"{path}: expected finite numbers; {len(broken)} tensors have others ({named})")


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Make the tensors of the file at `path` the weights of a module built within `on_meta_device`, in float32.

    Raises:
        WeightsError: they do not fit.
    """
    check_tensors(module.state_dict(), tensors, path)
    # copied, because views into a file are not aligned, and sums over them round otherwise than in the saved model:
    # test_a_saved_model_comes_back_the_same
    module.load_state_dict({key: value.to(torch.float32, copy=True) for key, value in tensors.items()}, assign=True)
