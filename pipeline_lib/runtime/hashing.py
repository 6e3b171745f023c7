"""Compute digests of files, arrays and settings."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray


def files_digest(paths: Sequence[str | Path]) -> str:
    """Return the digest of a file, or of the digests of several files in this order."""
    return joined([file_digest(path) for path in paths])


def joined(digests: Sequence[str]) -> str:
    """Return one digest for several. A single digest is returned unchanged."""
    return digests[0] if len(digests) == 1 else key_of(digests)


def array_digest(array: NDArray[Any]) -> str:
    """Return the blake2b-128 digest of an array's shape and values, in hexadecimal."""
    return hashlib.blake2b(repr(array.shape).encode() + array.tobytes(), digest_size=16).hexdigest()


def key_of(*parts: Any) -> str:
    """Return the blake2b-128 digest of values that JSON can hold, in hexadecimal."""
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=16).hexdigest()


def file_digest(path: str | Path) -> str:
    """Return the blake2b-128 digest of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
