"""Name the files that an output has for each image."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def image_files(folder: Path, names: Sequence[str], suffix: str) -> dict[str, Path]:
    """Return a path for each image by its name, and make the folders of the files.

    A file has the name of its image with another suffix. If the names of two images differ only in their suffixes, the
    files keep these suffixes too.
    """
    stems = {name: str(Path(name).with_suffix("")) for name in names}
    counts = Counter(stems.values())
    files = {name: folder / f"{stem if counts[stem] == 1 else name}{suffix}" for name, stem in stems.items()}
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
    return files
