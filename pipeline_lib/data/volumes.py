"""A data set's volumes, checked before anything is computed from them."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pipeline_lib.data.paths import files_of
from pipeline_lib.data.readers import is_zarr, open_stack, slice_files
from pipeline_lib.errors import DataError
from pipeline_lib.runtime.hashing import files_digest


def check_volume(folder: Path, volume: dict[str, Any], grey_range: list[float] | None) -> dict[str, Any]:
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
    if volume.get("pairing", "number") == "number":
        check_pairs(images_path, labels_path)
    for stack in images, labels:
        stack[-1].compute()  # headers often lie at the front: the last slice is what a truncated file lacks
    return {
        "images": images_path,
        "labels": labels_path,
        "shape": images.shape,
        "split": volume["split"],
        "every": volume.get("every", 1),
        "files": {part: _files(path) for part, path in (("images", images_path), ("labels", labels_path))},
    }


def check_pairs(images: str, labels: str) -> None:
    """Compare the numbers in the names of two folders' files, which are paired in their order.

    Raises:
        DataError: naming the first pair whose last numbers differ. Names without numbers are paired as they are.
    """
    folders = [Path(path) for path in (images, labels)]
    if not all(folder.is_dir() and not is_zarr(folder) for folder in folders):
        return
    for image, label in zip(*map(slice_files, folders), strict=True):
        numbers = [re.findall(r"\d+", file.stem)[-1:] for file in (image, label)]
        if all(numbers) and int(numbers[0][0]) != int(numbers[1][0]):
            raise DataError(
                f"{labels}: a slice of labels for each of {images} is expected, but {label.name} would be that of "
                f"{image.name}. If they belong together all the same, set `pairing: position` in the volume"
            )


def _files(path: str) -> dict[str, Any]:
    """How many files are behind a stack, and a digest of their bytes, by which a changed file is noticed."""
    files = files_of(path)
    return {"count": len(files), "digest": files_digest(files)}


def _size(shape: tuple[int, ...]) -> str:
    slices, height, width = shape
    return f"{slices} slices of {height} × {width} pixels"


def check_size(volumes: list[dict[str, Any]]) -> None:
    """Slices of all volumes have one size."""
    first = volumes[0]
    for volume in volumes:
        if volume["shape"][1:] != first["shape"][1:]:
            raise DataError(
                f"{volume['images']}: slices of the size of {first['images']} are expected, "
                f"{_size(first['shape'])}; found {_size(volume['shape'])}"
            )


def check_split(volumes: list[dict[str, Any]]) -> None:
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
