"""Tensors by name from files that are not trusted, and into networks that they must fit."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeGuard
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline_lib.errors import WeightsError

DISTRIBUTED = "module."  # before each name of a network that was trained on several GPUs
NAMED_KEYS = 3  # of each kind of misfit, in an error


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of a pickle of a dictionary of tensors, on the CPU.

    Training scripts save the dictionary inside another one, beside the epoch and the optimizer, and put `module.`
    before all names. Both are removed if the file holds one dictionary of tensors alone.

    Raises:
        WeightsError: the file is missing or damaged, holds several dictionaries of tensors, or is a pickle of anything
            else, which is not executed.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        # PyTorch has written zip files since 1.6. From a mapped file, only tensors that are copied are read, so that a
        # training does not hold the encoder's.
        mapped = is_zipfile(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UnpicklingError as error:  # whose text advises to execute the file
        raise WeightsError(
            f"{path}: expected tensors by name (safetensors or a PyTorch pickle); the file is damaged or holds other "
            "objects, such as a whole model, which are not executed. Save `model.state_dict()` alone"
        ) from error
    except Exception as error:  # whatever a damaged pickle comes to
        raise WeightsError(f"{path}: expected tensors by name (safetensors or a PyTorch pickle): {error}") from error
    return _without_prefix(_unwrapped(tensors, path))


def _unwrapped(content: object, path: str | Path) -> dict[str, Tensor]:
    if _are_tensors(content):
        return content
    entries = content.items() if isinstance(content, dict) else []
    weights = {str(key): value for key, value in entries if _are_tensors(value) and value}
    if len(weights) != 1:
        listed = ", ".join(map(repr, weights)) or "none"
        keys = f", among the keys {', '.join(repr(str(key)) for key, _ in entries)}" if entries else ""
        raise WeightsError(
            f"{path}: expected a dictionary of tensors by name, or one that holds one such dictionary; found {listed}"
            f"{keys}. Save the weights alone: `torch.save(checkpoint[KEY], FILE)`"
        )
    return next(iter(weights.values()))


def _are_tensors(content: object) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove what DistributedDataParallel puts before all names."""
    if not all(key.startswith(DISTRIBUTED) for key in tensors):
        return tensors
    return {key.removeprefix(DISTRIBUTED): value for key, value in tensors.items()}


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
