"""Names of the files that an output has for each image."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def file_stems(names: Sequence[str]) -> dict[str, str]:
    """Return the stem of each image's file by the image's name; two images of one stem keep their suffixes."""
    stems = Counter(Path(name).stem for name in names)
    return {name: Path(name).stem if stems[Path(name).stem] == 1 else name for name in names}
