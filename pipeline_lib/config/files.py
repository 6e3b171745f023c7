"""Check configuration files before they are merged."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import yaml

from pipeline_lib.errors import DataError

MOST_ENTRIES = 100_000  # largest number of entries in a config file, after its aliases are expanded


def check_files(paths: Iterable[str | Path]) -> None:
    """Refuse config files whose content YAML would read in a surprising way.

    Raises:
        DataError: A file is not YAML, or has a key twice, of which YAML would use the last. Or its aliases expand to
            more than `MOST_ENTRIES` entries.
    """
    for path in paths:
        if Path(path).suffix == ".json":
            continue
        try:
            root = yaml.compose(Path(path).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:  # RecursionError: very many brackets
            raise DataError(f"{path}: expected YAML: {error}") from error
        if root is not None and _count_entries(root, path, {}) > MOST_ENTRIES:
            raise DataError(
                f"{path}: expected at most {MOST_ENTRIES:,} entries, found more after expanding aliases. Write the "
                "file without aliases"
            )


def _count_entries(node: yaml.Node, path: str | Path, counts: dict[int, int]) -> int:
    """Return the number of entries of a node after expanding its aliases.

    Args:
        node: A node of the file.
        path: Path of the file, for messages.
        counts: Numbers of entries of the nodes so far, by id.

    Raises:
        DataError: A mapping has a key twice.
    """
    if id(node) not in counts:
        counts[id(node)] = MOST_ENTRIES + 1  # for a node that contains itself
        children: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            children = node.value
        elif isinstance(node, yaml.MappingNode):
            keys = Counter((key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            for (_, key), count in keys.items():
                if count > 1:
                    line = node.start_mark.line + 1
                    raise DataError(
                        f"{path}: the section that begins at line {line} has the key {key!r} twice. Remove one of them"
                    )
            children = [value for _, value in node.value]
        counts[id(node)] = 1 + sum(_count_entries(child, path, counts) for child in children)
    return counts[id(node)]
