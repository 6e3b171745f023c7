"""Which code a stage runs, as one digest, by which Snakemake sees that results are those of other code."""

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
    """What is known of a file of this library."""

    digest: str  # of its code and of the files beside it that it names
    imports: frozenset[Path]  # the files of this library that it imports


def code_digest(module: str) -> str:
    """blake2b-128, in hexadecimal, of a module of this library and of all of its modules that it imports, at any depth.

    Comments, docstrings and the layout of lines do not count, nor do other packages. A file that a module names and
    that lies beside it does: a template, shipped weights.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(closure(module)):
        digest.update(f"{path.relative_to(LIBRARY)} {read(path).digest}\n".encode())
    return digest.hexdigest()


def closure(module: str) -> set[Path]:
    """The files of a module and of all modules of the library that it imports, directly or not."""
    found: set[Path] = set()
    waiting = {path_of(module)}
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting |= read(path).imports - found
    return found


def path_of(module: str) -> Path:
    """The file of a module of the library, whether it exists or not."""
    return LIBRARY.joinpath(*module.split(".")[1:]).with_suffix(".py")


@cache
def read(path: Path) -> Source:
    """Parse a file, once in a process: every start of Snakemake waits for it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    words: set[str] = set()
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
        digest=key_of(ast.unparse(tree), files),  # `ast.dump` differs between Python's versions
        imports=frozenset(file for name in names if (file := path_of(name)).exists()),
    )


def _imported_names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """What may be modules of the library: of `from a import b` both a and a.b."""
    package = f"{LIBRARY.name}."
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.startswith(package))
    elif f"{node.module}.".startswith(package):
        yield str(node.module)
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_docstring(node: ast.stmt) -> bool:
    """Say whether a statement is a string alone: the docstring of what holds it, or of the attribute before it."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
