"""Stage raw: bring a data set's files, in their original formats, and check them before anything is computed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline_lib.data.download import fetch, unpack
from pipeline_lib.data.layouts import LAYOUTS
from pipeline_lib.data.volumes import check_splits, check_volume
from pipeline_lib.errors import DataError
from pipeline_lib.runtime.atomic import atomic, naming


def raw(*, manifest: str, dataset: dict[str, Any], files: Sequence[str] = (), stamps: str = "") -> None:
    """Bring the data set's files and write down where its volumes are.

    Args:
        manifest: The JSON file to write: each volume with a digest of its files. Generated and downloaded files come to
            its folder, a downloaded `name.zip` that is to be unpacked into the folder `name` there, and their paths
            are relative to it.
        dataset: The data set's section of the configuration: `source`, `volumes` and `grey_range` are used. Paths of
            volumes are relative to the source's folder.
        files: A user's own files. Not used here: the rule lists them so that a changed file is noticed.
        stamps: Of their sizes and times. Not used here: by it a file is noticed that was replaced by an older one.

    Raises:
        DataError: A file is missing, damaged or not what the configuration says.
        DownloadError: A file cannot be fetched.
    """
    folder = _bring(dataset["source"], Path(manifest).parent).resolve()
    volumes = [check_volume(folder, volume, dataset["grey_range"]) for volume in dataset["volumes"]]
    check_splits(volumes)
    if dataset["source"]["kind"] != "path":  # so that a folder of results can be moved
        volumes = [
            volume | {part: str(Path(volume[part]).relative_to(folder)) for part in ("images", "labels")}
            for volume in volumes
        ]
    with atomic(manifest) as partial:
        partial.write_text(json.dumps({"volumes": volumes}, indent=2) + "\n")


def _bring(source: dict[str, Any], folder: Path) -> Path:
    """Make the source's files available; returns the folder that they are in."""
    match source["kind"]:
        case "path":
            return Path(source["folder"]).expanduser()
        case "download":
            for file in source["files"]:
                if Path(file["name"]).name != file["name"] or file["name"].startswith("."):  # the schema says so, too
                    raise DataError(f"download: expected the plain name of a file, found {file['name']!r}")
                fetch(file["url"], folder / file["name"], file["checksum"])
                if file["unpack"]:
                    unpack(folder / file["name"])
        case "synthetic":
            with naming(folder):
                LAYOUTS[source["layout"]](source, folder)
    return folder
