"""Compute a digest of the code that a stage runs, so that Snakemake notices results of other code."""

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline_lib.runtime.hashing import file_digest, key_of

LIBRARY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Source:
    """A file of this library."""

    digest: str  # of its code, and of the files beside it that it names
    imports: frozenset[Path]  # files of this library that it imports


def code_digest(module: str) -> str:
    """Return the blake2b-128 digest, in hexadecimal, of a module of this library and all modules that it imports.

    Imports are followed at any depth, but only in this library. The digest does not depend on comments, docstrings and
    line breaks. It does depend on files that a module names and that lie beside it, such as templates and weights.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(closure(module)):
        digest.update(f"{path.relative_to(LIBRARY)} {read(path).digest}\n".encode())
    return digest.hexdigest()


def closure(module: str) -> set[Path]:
    """Return the files of a module and of all modules of the library that it imports, directly or indirectly."""
    files: set[Path] = set()
    waiting = {path_of(module)}
    while waiting:
        path = waiting.pop()
        files.add(path)
        waiting |= read(path).imports - files
    return files


def path_of(module: str) -> Path:
    """Return the path of a module of the library. The file need not exist."""
    return LIBRARY.joinpath(*module.split(".")[1:]).with_suffix(".py")


@cache
def read(path: Path) -> Source:
    """Parse a file. The result is cached, because every start of Snakemake waits for it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()  # of imported modules
    words: set[str] = set()  # string constants, which may be names of files
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [each for each in node.body if not _is_docstring(each)]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names.update(_imported_names(node))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
    beside = {file.name: file for file in path.parent.iterdir() if file.is_file() and file.suffix != ".py"}
    files = [file_digest(beside[name]) for name in sorted(words & beside.keys())]
    return Source(
        digest=key_of(ast.unparse(tree), files),  # not `ast.dump`, which differs between versions of Python
        imports=frozenset(file for name in names if (file := path_of(name)).exists()),
    )


def _imported_names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield names that may be modules of the library: for `from a import b` both a and a.b."""
    package = f"{LIBRARY.name}."
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.startswith(package))
    elif f"{node.module}.".startswith(package):
        yield str(node.module)
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_docstring(node: ast.stmt) -> bool:
    """Return whether a statement is only a string: a docstring, also of an attribute."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
