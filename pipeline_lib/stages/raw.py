"""Stage raw: download, generate or find the files of a data set, and check them before anything is computed."""

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
    """Get the files of a data set, check them, and write a manifest of its volumes.

    Args:
        manifest: JSON file to write: each volume with a digest of its files. Generated and downloaded files lie in its
            folder, and `name.zip` is unpacked to the folder `name` there. Their paths in the manifest are relative.
        source: Where the files come from.
        volumes: Stacks and their splits. Their paths are relative to the source's folder.
        grey_range: Grey values that become black and white; None: all images are 8-bit.
        files: Files of the user. The stage does not use them: the rule lists them so that changes are noticed.
        stamps: Digest of their sizes and times. The stage does not use it: it changes if an older file replaces one.

    Raises:
        DataError: A file is missing, damaged or not what the configuration says.
        DownloadError: A file cannot be fetched.
    """
    folder = _get_files(source, Path(manifest).parent).resolve()
    entries = [check_volume(folder, volume, grey_range) for volume in volumes]
    check_splits(entries)
    if not isinstance(source, PathSource):  # relative paths, so that the folder of results can be moved
        entries = [
            entry | {part: str(Path(entry[part]).relative_to(folder)) for part in ("images", "labels")}
            for entry in entries
        ]
    with atomic(manifest) as partial:
        partial.write_text(json.dumps({"volumes": entries}, indent=2) + "\n")


def _get_files(source: Source, folder: Path) -> Path:
    """Download or generate the source's files if need be, and return their folder."""
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
