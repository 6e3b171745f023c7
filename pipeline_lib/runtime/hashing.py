"""Digests: short names for files, arrays and settings."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


def files_digest(paths: Sequence[str | Path]) -> str:
    """A file's digest; of several files, that of their digests in this order."""
    return joined([file_digest(path) for path in paths])


def joined(digests: Sequence[str]) -> str:
    """One digest as it is, several as one."""
    return digests[0] if len(digests) == 1 else key_of(digests)


def array_digest(array: NDArray[Any]) -> str:
    """blake2b-128 of an array's shape and values, in hexadecimal."""
    return hashlib.blake2b(repr(array.shape).encode() + array.tobytes(), digest_size=16).hexdigest()


def key_of(*parts: Any) -> str:
    """A short name for some values that JSON can hold."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def file_digest(path: str | Path) -> str:
    """blake2b-128 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
