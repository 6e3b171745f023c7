"""Read tensors from checkpoints that are not trusted, check them, and load them into networks."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeGuard
from zipfile import is_zipfile

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline_lib.errors import WeightsError

DISTRIBUTED = "module."  # prefix of all names if DistributedDataParallel trained the network
NAMED_KEYS = 3  # keys of each kind that an error names


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a safetensors file, or of a pickle of a dictionary of tensors, to the CPU.

    Training scripts save the dictionary inside another one, beside the epoch and the optimizer, and put `module.`
    before all names. Both are removed if the file holds only one dictionary of tensors.

    Raises:
        WeightsError: the file is missing or damaged, holds several dictionaries of tensors, or pickles other objects.
            These are not executed.
    """
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        # PyTorch has written zip files since 1.6. If the file is mapped, only the tensors that are used are read. So a
        # training does not hold the encoder in memory.
        mapped = is_zipfile(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except UnpicklingError as error:  # its own text advises to execute the file
        raise WeightsError(
            f"{path}: expected tensors by name (safetensors or a PyTorch pickle); the file is damaged or holds other "
            "objects, such as a whole model, which are not executed. Save `model.state_dict()` alone"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise WeightsError(
            f"{path}: expected tensors by name (safetensors or a PyTorch pickle), found a file that cannot be read; "
            f"copy or download it again ({error})"
        ) from error
    return _without_prefix(_unwrapped(tensors, path))


def _unwrapped(content: object, path: str | Path) -> dict[str, Tensor]:
    if _are_tensors(content):
        return content
    entries = content.items() if isinstance(content, dict) else []
    weights = {str(key): value for key, value in entries if _are_tensors(value) and value}
    if len(weights) != 1:
        names = ", ".join(map(repr, weights)) or "none"
        keys = f", among the keys {', '.join(repr(str(key)) for key, _ in entries)}" if entries else ""
        raise WeightsError(
            f"{path}: expected a dictionary of tensors by name, or one that holds one such dictionary; found {names}"
            f"{keys}. Save the weights alone: `torch.save(checkpoint[KEY], FILE)`"
        )
    return next(iter(weights.values()))


def _are_tensors(content: object) -> TypeGuard[dict[str, Tensor]]:
    return isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())


def _without_prefix(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefix that DistributedDataParallel puts before all names."""
    if not all(key.startswith(DISTRIBUTED) for key in tensors):
        return tensors
    return {key.removeprefix(DISTRIBUTED): value for key, value in tensors.items()}


def check_tensors(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Check that tensors have the names and shapes that a network expects.

    Raises:
        WeightsError: they do not; it names the file and the first keys that are missing, unexpected or of another
            shape.
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
        raise WeightsError(
            f"{path}: does not fit its network: {'; '.join(counts)}; use a file of this backbone and shape"
        )


def check_finite(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Check that all numbers of all tensors are finite.

    Raises:
        WeightsError: some are not; it names the file and the first keys with such numbers.
    """
    broken = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        named = ", ".join(broken[:NAMED_KEYS])
        raise WeightsError(
            f"{path}: expected finite numbers, found NaN or infinity in {len(broken)} tensors ({named}); use another "
            "checkpoint"
        )


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Give a module that was built in `on_meta_device` its weights, as float32.

    Args:
        module: module to change.
        tensors: weights by name.
        path: file of the weights, for errors.

    Raises:
        WeightsError: the tensors do not fit the module.
    """
    check_tensors(module.state_dict(), tensors, path)
    # Tensors that view a file are not aligned, and sums over them are rounded differently from those of the saved model
    # (test_a_saved_model_comes_back_the_same). So they are copied.
    module.load_state_dict({key: value.to(torch.float32, copy=True) for key, value in tensors.items()}, assign=True)
