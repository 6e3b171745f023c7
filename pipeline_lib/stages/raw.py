"""Stage raw: bring a data set's files, in their original formats, and check them before anything is computed."""

import json
from collections.abc import Sequence
from pathlib import Path

from pipeline_lib.data.download import fetch, unpack
from pipeline_lib.data.layouts import LAYOUTS
from pipeline_lib.data.volumes import check_splits, check_volume
from pipeline_lib.runtime.atomic import atomic, naming
from pipeline_lib.settings.base import GreyRange
from pipeline_lib.settings.datasets import DownloadSource, PathSource, Source, SyntheticSource, Volume


def raw(
    *,
    manifest: str,
    source: Source,
    volumes: Sequence[Volume],
    grey_range: GreyRange | None,
    files: Sequence[str] = (),
    stamps: str = "",
) -> None:
    """Bring the data set's files and write down where its volumes are.

    Args:
        manifest: The JSON file to write: each volume with a digest of its files. Generated and downloaded files come to
            its folder, a downloaded `name.zip` that is to be unpacked into the folder `name` there, and their paths
            are relative to it.
        source: Where the files come from.
        volumes: Stacks and their splits. Their paths are relative to the source's folder.
        grey_range: Grey values that become black and white; None if all images are 8-bit.
        files: A user's own files. Not used here: the rule lists them so that a changed file is noticed.
        stamps: Of their sizes and times. Not used here: by it a file is noticed that was replaced by an older one.

    Raises:
        DataError: A file is missing, damaged or not what the configuration says.
        DownloadError: A file cannot be fetched.
    """
    folder = _bring(source, Path(manifest).parent).resolve()
    entries = [check_volume(folder, volume, grey_range) for volume in volumes]
    check_splits(entries)
    if not isinstance(source, PathSource):  # so that a folder of results can be moved
        entries = [
            entry | {part: str(Path(entry[part]).relative_to(folder)) for part in ("images", "labels")}
            for entry in entries
        ]
    with atomic(manifest) as partial:
        partial.write_text(json.dumps({"volumes": entries}, indent=2) + "\n")


def _bring(source: Source, folder: Path) -> Path:
    """Make the source's files available, and return the folder that they are in."""
    match source:
        case PathSource():
            return Path(source.folder).expanduser()
        case DownloadSource():
            for file in source.files:
                fetch(file.url, folder / file.name, file.checksum)
                if file.unpack:
                    unpack(folder / file.name)
        case SyntheticSource():
            with naming(folder):
                LAYOUTS[source.layout](source, folder)
    return folder
