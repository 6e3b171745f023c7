"""A data set's volumes, checked before anything is computed from them."""

import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.data.paths import HDF5, files_of
from pipeline_lib.data.readers import check_whole, is_zarr, open_stack, slice_files
from pipeline_lib.data.tables import read_json
from pipeline_lib.errors import DataError, intact
from pipeline_lib.runtime.hashing import file_digest, joined

LIKE_AN_IMAGE = 0.5  # of neighbouring pixels that differ: in labels at outlines alone, in an image nearly everywhere


def check_volume(folder: Path, volume: dict[str, Any], grey_range: list[float] | None) -> dict[str, Any]:
    """Open a volume's stacks and compare them; returns its entry in the manifest."""
    images_path, labels_path = str(folder / volume["images"]), str(folder / volume["labels"])
    images, labels = open_stack(images_path), open_stack(labels_path)
    for part, path in (("images", images_path), ("labels", labels_path)):
        if part not in volume.get("missing_chunks", []):
            check_whole(path)
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
    images[-1].compute()  # headers often lie at the front: the last slice is what a truncated file lacks
    check_labels(labels_path, labels[-1].compute())
    return {
        "images": images_path,
        "labels": labels_path,
        "shape": images.shape,
        "split": volume["split"],
        "every": volume.get("every", 1),
        "files": {part: _files(path) for part, path in (("images", images_path), ("labels", labels_path))},
    }


def read_volumes(manifest: str | Path) -> list[dict[str, Any]]:
    """The volumes of the manifest that the stage raw wrote, with paths from here.

    Raises:
        DataError: a file that is behind one of them has changed since.
    """
    with intact(manifest):
        volumes: list[dict[str, Any]] = read_json(manifest)["volumes"]
    written = Path(manifest).stat().st_mtime_ns
    for volume in volumes:
        for part in ("images", "labels"):
            volume[part] = str(Path(manifest).parent / volume[part])
            files = files_of(volume[part])
            newer = any(not file.exists() or file.stat().st_mtime_ns > written for file in files)
            if newer and _files(volume[part])["digest"] != volume["files"][part]["digest"]:
                raise DataError(f"{volume[part]}: changed since {manifest} was written for it; run raw again")
    return volumes


def check_labels(path: str, labels: NDArray[np.integer[Any]]) -> None:
    """Refuse a slice (YX) whose neighbours differ as those of an image do; objects are areas of one number."""
    differing = np.mean(labels[:, 1:] != labels[:, :-1]) if labels.shape[1] > 1 else 0.0
    if differing > LIKE_AN_IMAGE:
        raise DataError(
            f"{path}: numbers of objects are expected, but in its last slice {differing:.0%} of neighbouring pixels "
            "differ, as grey values do; is it the image?"
        )


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
    """How many files are behind a stack, and digests of their bytes, by which a changed file is noticed.

    `digests` are those of a folder's slices in their order, by which a slice is known under another path.
    """
    files, folder = files_of(path), Path(path)
    digests = {file: file_digest(file) for file in files}
    slices = slice_files(folder) if folder.is_dir() and not is_zarr(folder) else []
    return {
        "count": len(files),
        "digest": joined(list(digests.values())),
        "digests": [digests[file] for file in slices],
    }


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
    _check_copies(parts)


def _is_blank(images: str, index: int) -> bool:
    """Whether a slice is of one grey, as those at the ends of a stack may be."""
    pixels = open_stack(images)[index].compute()
    return bool((pixels == pixels[0, 0]).all())


def _check_copies(parts: list[tuple[dict[str, Any], str, range]]) -> None:
    """No slice but blank ones is in two splits under two paths, as a copy or a link."""
    seen: dict[tuple[str, str, int], tuple[str, str]] = {}
    for volume, name, part in parts:
        files, match = volume["files"]["images"], HDF5.fullmatch(volume["images"])
        array = (match["dataset"] or "").strip("/") if match else ""  # a file may hold several
        for index in part[:: volume["every"]]:
            same = (files["digests"][index], "", 0) if files["digests"] else (files["digest"], array, index)
            place, split = seen.setdefault(same, (f"slice {index} of {volume['images']}", name))
            if split != name and not _is_blank(volume["images"], index):
                raise DataError(
                    f"{volume['images']}: slice {index}, which is in {name}, has the bytes of {place}, "
                    f"which is in {split}"
                )
