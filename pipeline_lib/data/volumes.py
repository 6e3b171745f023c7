"""A data set's volumes, checked before anything is computed from them."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.data.image_files import is_zarr, slice_files
from pipeline_lib.data.paths import HDF5, files_of
from pipeline_lib.data.readers import check_whole, open_label_slices, open_slices
from pipeline_lib.data.splits import split_slices
from pipeline_lib.data.tables import read_json
from pipeline_lib.errors import DataError, intact
from pipeline_lib.runtime.hashing import file_digest, joined
from pipeline_lib.settings.base import GreyRange
from pipeline_lib.settings.datasets import Volume

LIKE_AN_IMAGE = 0.5  # of neighbouring pixels that differ: in labels at outlines alone, in an image nearly everywhere


def check_volume(folder: Path, volume: Volume, grey_range: GreyRange | None) -> dict[str, Any]:
    """Open the stacks of a volume, compare them, and return the entry of the volume in the manifest."""
    images_path, labels_path = str(folder / volume.images), str(folder / volume.labels)
    images, labels = open_slices(images_path), open_label_slices(labels_path)
    for part, path in (("images", images_path), ("labels", labels_path)):
        if part not in volume.missing_chunks:
            check_whole(path)
    if images[0].dtype != np.uint8 and grey_range is None:
        raise DataError(
            f"{images_path}: {images[0].dtype} images need a `grey_range: [black, white]`; only uint8 do not"
        )
    if volume.slices not in (None, len(images)):
        raise DataError(
            f"{images_path}: expected {volume.slices} slices, as the key `slices` of the volume says, found "
            f"{len(images)}. Give the stack that the splits were chosen for, or choose `split` and `every` for this one"
        )
    if labels[0].dtype.kind not in "biu":
        raise DataError(f"{labels_path}: labels are expected to be whole numbers, found {labels[0].dtype}")
    names = slice_names(images_path, len(images))
    check_sizes(images_path, labels_path, [each.shape for each in images], [each.shape for each in labels])
    if volume.pairing == "number":
        check_pairs(images_path, labels_path)
    slices = split_slices(images_path, names, volume.split, volume.every)
    images[-1].compute()  # headers often lie at the front: the last slice is what a truncated file lacks
    check_labels(labels_path, labels[-1].compute())
    return {
        "images": images_path,
        "labels": labels_path,
        "sizes": [each.shape for each in images],
        "slices": slices,
        "files": {part: _files(path) for part, path in (("images", images_path), ("labels", labels_path))},
    }


def read_volumes(manifest: str | Path) -> list[dict[str, Any]]:
    """Read the volumes of the manifest that the stage raw wrote, with paths from here.

    Raises:
        DataError: a file that is behind one of them was changed or lost since.
    """
    with intact(manifest):
        volumes: list[dict[str, Any]] = read_json(manifest)["volumes"]
    written = Path(manifest).stat().st_mtime_ns
    for volume in volumes:
        for part in ("images", "labels"):
            volume[part] = str(Path(manifest).parent / volume[part])
            files, recorded = files_of(volume[part]), volume["files"][part]
            lost = sorted(set(recorded["names"]) - {file.name for file in files if file.exists()})
            if lost:
                raise DataError(
                    f"{volume[part]}: {lost[0]} is missing since {manifest} was written; put it back, or bring "
                    "downloaded and generated files again with `snakemake --forcerun raw`"
                )
            newer = len(files) != recorded["count"] or any(file.stat().st_mtime_ns > written for file in files)
            if newer and _files(volume[part])["digest"] != recorded["digest"]:
                raise DataError(
                    f"{volume[part]}: changed since {manifest} was written for it; "
                    "check the new files with `snakemake --forcerun raw`"
                )
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
    """Return number and names of the files behind a stack, and digests of their bytes.

    `digests` are those of a folder's slices in their order, by which a slice is known under another path.
    """
    files, folder = files_of(path), Path(path)
    digests = {file: file_digest(file) for file in files}
    slices = slice_files(folder) if folder.is_dir() and not is_zarr(folder) else []
    return {
        "count": len(files),
        "names": sorted({file.name for file in files}),
        "digest": joined(list(digests.values())),
        "digests": [digests[file] for file in slices],
    }


def slice_names(path: str, count: int) -> list[str]:
    """Return the names of a folder's slices; of another format, an empty name for each of `count` slices."""
    folder = Path(path)
    return [file.name for file in slice_files(folder)] if folder.is_dir() and not is_zarr(folder) else [""] * count


def check_sizes(images: str, labels: str, sizes: list[tuple[int, ...]], label_sizes: list[tuple[int, ...]]) -> None:
    """Compare the numbers of slices and the size of each slice of images and labels.

    Raises:
        DataError: naming the first slice whose labels are of another size.
    """
    if len(sizes) != len(label_sizes) or (sizes != label_sizes and len(set(sizes)) == len(set(label_sizes)) == 1):
        raise DataError(
            f"{labels}: labels of the shape of {images} are expected, {_sizes(sizes)}; found {_sizes(label_sizes)}"
        )
    names = zip(slice_names(images, len(sizes)), slice_names(labels, len(sizes)), strict=True)
    for size, label_size, (image, label) in zip(sizes, label_sizes, names, strict=True):
        if size != label_size:
            raise DataError(
                f"{labels}: {label} has {_size(label_size)} pixels, but {image} of {images} has {_size(size)}; "
                "labels are paired with images in the order of their names"
            )


def _sizes(sizes: list[tuple[int, ...]]) -> str:
    distinct = list(dict.fromkeys(sizes))
    more = f" and {len(distinct) - 1} other sizes" if len(distinct) > 1 else ""
    return f"{len(sizes)} slices of {_size(distinct[0])} pixels{more}"


def _size(size: tuple[int, ...]) -> str:
    return f"{size[0]} × {size[1]}"


def check_splits(volumes: list[dict[str, Any]]) -> None:
    """Compare the slices of all volumes.

    Raises:
        DataError: a slice is in two splits, through two volumes of one file or as a copy of another file.
    """
    splits: dict[tuple[str, int], str] = {}
    for volume in volumes:
        for index, split in volume["slices"]:
            other = splits.setdefault((volume["images"], index), split)
            if other != split:
                raise DataError(f"{volume['images']}: slice {index} is both in {other} and in {split}")
    _check_copies(volumes)


def _is_blank(images: str, index: int) -> bool:
    """Whether a slice is of one grey, as those at the ends of a stack may be."""
    pixels = open_slices(images)[index].compute()
    return bool((pixels == pixels[0, 0]).all())


def _check_copies(volumes: list[dict[str, Any]]) -> None:
    """Refuse a slice that is in two splits under two paths, as a copy or a link; blank slices can be."""
    places: dict[tuple[str, str, int], tuple[str, str]] = {}
    for volume in volumes:
        files, match = volume["files"]["images"], HDF5.fullmatch(volume["images"])
        array = (match["dataset"] or "").strip("/") if match else ""  # a file may hold several
        for index, split in volume["slices"]:
            same = (files["digests"][index], "", 0) if files["digests"] else (files["digest"], array, index)
            place, other = places.setdefault(same, (f"slice {index} of {volume['images']}", split))
            if split != other and not _is_blank(volume["images"], index):
                raise DataError(
                    f"{volume['images']}: slice {index}, which is in {split}, has the bytes of {place}, "
                    f"which is in {other}"
                )
