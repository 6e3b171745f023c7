"""Configuration files as they are written, before what they say is merged."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import yaml

from pipeline_lib.errors import DataError

MOST_ENTRIES = 100_000  # of a config file


def check_files(paths: Iterable[str | Path]) -> None:
    """Look at config files as they are written, before what they say is merged.

    Raises:
        DataError: a file has a key twice, of which YAML keeps the last, or repeats itself by aliases beyond all bounds.
    """
    for path in paths:
        if Path(path).suffix == ".json":
            continue
        try:
            root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:  # brackets without end
            raise DataError(f"{path}: expected YAML: {error}") from error
        if root is not None and _expanded(root, path, {}) > MOST_ENTRIES:
            raise DataError(f"{path}: it has more than {MOST_ENTRIES:,} entries, with those that its aliases stand for")


def _expanded(node: yaml.Node, path: str | Path, known: dict[int, int]) -> int:
    """How many entries a node has with those that its aliases stand for."""
    if id(node) not in known:
        known[id(node)] = MOST_ENTRIES + 1  # of a node within itself
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            keys = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            for (_, key), count in keys.items():
                if count > 1:
                    line = node.start_mark.line + 1
                    raise DataError(f"{path}: the key {key!r} is there twice in the section that begins at line {line}")
            children = [value for _, value in node.value]
        known[id(node)] = 1 + sum(_expanded(child, path, known) for child in children)
    return known[id(node)]
