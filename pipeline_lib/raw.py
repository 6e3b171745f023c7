"""Stage raw: bring a data set's files, in their original formats, and check them before anything is computed."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import tifffile
from tqdm import tqdm

from pipeline_lib.atomic import atomic
from pipeline_lib.config import files_of
from pipeline_lib.download import fetch, unpack
from pipeline_lib.errors import DataError
from pipeline_lib.formats import open_stack
from pipeline_lib.synthetic import Look, Slice, generate_slice


def raw(*, manifest: str, dataset: dict[str, Any], files: Sequence[str] = ()) -> None:
    """Bring the data set's files and write down where its volumes are.

    Args:
        manifest: The JSON file to write. Generated and downloaded files come to its folder, and a downloaded
            `name.zip` that is to be unpacked into the folder `name` there.
        dataset: The data set's section of the configuration: `source`, `volumes` and `grey_range` are used. Paths of
            volumes are relative to the source's folder, ranges of slices half-open.
        files: A user's own files. Not used here: the rule lists them so that a changed file is noticed.

    Raises:
        DataError: A file is missing, damaged or not what the configuration says.
        DownloadError: A file cannot be fetched.
    """
    folder = _bring(dataset["source"], Path(manifest).parent).resolve()
    volumes = [_check_volume(folder, volume, dataset["grey_range"]) for volume in dataset["volumes"]]
    _check_size(volumes)
    _check_split(volumes)
    with atomic(manifest) as partial:
        partial.write_text(json.dumps({"volumes": volumes}, indent=2) + "\n")


def _bring(source: dict[str, Any], folder: Path) -> Path:
    """Make the source's files available; returns the folder that they are in."""
    match source["kind"]:
        case "path":
            return Path(source["folder"]).expanduser()
        case "download":
            for file in source["files"]:
                fetch(file["url"], folder / file["name"], file["checksum"])
                if file["unpack"]:
                    unpack(folder / file["name"])
        case "synthetic":
            LAYOUTS[source["layout"]](source, folder)
    return folder


def _slices(source: dict[str, Any], first: int) -> Iterator[Slice]:
    """The source's slices, numbered from `first`: a slice depends on nothing but the seed and its number.

    Numbers start at 1, as [seed, 0] seeds the look that all slices share.
    """
    look = Look.draw(np.random.default_rng([source["seed"], 0]))
    height, width = source["size"]
    for number in tqdm(range(first, first + source["slices"]), desc="generating slices", mininterval=10):
        yield generate_slice(np.random.default_rng([source["seed"], number]), (height, width), look)


def _write_lab(source: dict[str, Any], folder: Path) -> None:
    """A folder of slices and a folder of instance labels, like a lab's own data."""
    with atomic(folder / "images") as images, atomic(folder / "labels") as labels:
        images.mkdir(parents=True)
        labels.mkdir()
        for index, drawn in enumerate(_slices(source, first=1)):
            iio.imwrite(images / f"{index:04}.png", drawn.image)
            tifffile.imwrite(labels / f"{index:04}.tif", drawn.cells.astype(np.uint16))


def _write_isbi2012(source: dict[str, Any], folder: Path) -> None:
    """The challenge's two stacks; labels are 0 on membranes, 255 in cells."""
    _write_stacks(folder / "train-volume.tif", folder / "train-labels.tif", "cells", _slices(source, first=1))


def _write_epfl(source: dict[str, Any], folder: Path) -> None:
    """The data set's two volumes with their labels: 255 in mitochondria."""
    for name, first in ("training", 1), ("testing", 1 + source["slices"]):
        labels = folder / f"{name}_groundtruth.tif"
        _write_stacks(folder / f"{name}.tif", labels, "mitochondria", _slices(source, first))


def _write_stacks(images: Path, labels: Path, objects: str, slices: Iterator[Slice]) -> None:
    """Two multi-page TIFF files, uint8 ZYX; labels are 255 in the `objects` of the slices, 0 elsewhere."""
    with (
        atomic(images) as partial_images,
        atomic(labels) as partial_labels,
        tifffile.TiffWriter(partial_images) as image_stack,
        tifffile.TiffWriter(partial_labels) as label_stack,
    ):
        for drawn in slices:
            image_stack.write(drawn.image, contiguous=True)
            label_stack.write(np.where(getattr(drawn, objects), np.uint8(255), np.uint8(0)), contiguous=True)


LAYOUTS = {"lab": _write_lab, "isbi2012": _write_isbi2012, "epfl": _write_epfl}


def _check_volume(folder: Path, volume: dict[str, Any], grey_range: list[float] | None) -> dict[str, Any]:
    """Open a volume's stacks and compare them; returns its entry in the manifest."""
    images_path, labels_path = str(folder / volume["images"]), str(folder / volume["labels"])
    images, labels = open_stack(images_path), open_stack(labels_path)
    if images.dtype != np.uint8 and grey_range is None:
        raise DataError(f"{images_path}: {images.dtype} images need a `grey_range: [black, white]`; only uint8 do not")
    if labels.dtype.kind not in "biu":
        raise DataError(f"{labels_path}: labels are expected to be whole numbers, found {labels.dtype}")
    if labels.shape != images.shape:
        raise DataError(
            f"{labels_path}: labels of the shape of {images_path} are expected, {_size(images.shape)}; "
            f"found {_size(labels.shape)}"
        )
    for stack in images, labels:
        stack[-1].compute()  # headers often lie at the front: the last slice is what a truncated file lacks
    stamp = _stamp(files_of(images_path) + files_of(labels_path))
    return {
        "images": images_path,
        "labels": labels_path,
        "shape": images.shape,
        "split": volume["split"],
        "stamp": stamp,
    }


def _stamp(files: list[Path]) -> str:
    """Changes with the names, sizes and times of files: Snakemake takes a manifest of the same bytes for unchanged."""
    facts = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def _size(shape: tuple[int, ...]) -> str:
    slices, height, width = shape
    return f"{slices} slices of {height} × {width} pixels"


def _check_size(volumes: list[dict[str, Any]]) -> None:
    first = volumes[0]
    for volume in volumes:
        if volume["shape"][1:] != first["shape"][1:]:
            raise DataError(
                f"{volume['images']}: slices of the size of {first['images']} are expected, "
                f"{_size(first['shape'])}; found {_size(volume['shape'])}"
            )


def _check_split(volumes: list[dict[str, Any]]) -> None:
    """Ranges lie within their stacks, and no slice is used twice, not even through two volumes of one file."""
    parts = [(volume, name, range(*part)) for volume in volumes for name, part in volume["split"].items()]
    for volume, name, part in parts:
        if not 0 <= part.start < part.stop <= volume["shape"][0]:
            raise DataError(
                f"{volume['images']}: {name} is to be slices [{part.start}, {part.stop}), "
                f"a range within its {volume['shape'][0]} slices is expected"
            )
    for (volume, name, part), (other, other_name, other_part) in combinations(parts, 2):
        shared = range(max(part.start, other_part.start), min(part.stop, other_part.stop))
        if volume["images"] == other["images"] and shared:
            raise DataError(f"{volume['images']}: slice {shared.start} is both in {name} and in {other_name}")
