"""Check the volumes of a data set before anything is computed from them."""

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

LIKE_AN_IMAGE = 0.5  # share of neighbouring pixels that differ: few in labels, nearly all in an image


def check_volume(folder: Path, volume: Volume, grey_range: GreyRange | None) -> dict[str, Any]:
    """Check a volume, and return its entry for the manifest.

    Args:
        folder: Folder of the data set.
        volume: The volume.
        grey_range: Grey values that become black and white; None if the images are 8-bit.

    Returns:
        Paths and sizes of the slices, their splits, and digests of all files, as values that JSON can hold.

    Raises:
        DataError: A file is missing, damaged or of the wrong type, or images and labels do not belong together.
    """
    # Images and labels, without reading them
    images_path, labels_path = str(folder / volume.images), str(folder / volume.labels)
    images, labels = open_slices(images_path), open_label_slices(labels_path)
    for part, path in (("images", images_path), ("labels", labels_path)):
        if part not in volume.missing_chunks:
            check_whole(path)
    if images[0].dtype != np.uint8 and grey_range is None:
        raise DataError(
            f"{images_path}: expected 8-bit images, found {images[0].dtype}. Set `grey_range: [black, white]` in the "
            "data set"
        )
    if volume.slices not in (None, len(images)):
        raise DataError(
            f"{images_path}: expected {volume.slices} slices, as the key `slices` of the volume says, found "
            f"{len(images)}. Use the stack that the splits were chosen for, or choose `split` and `every` for this one"
        )
    if labels[0].dtype.kind not in "biu":
        raise DataError(
            f"{labels_path}: expected labels with whole numbers, found {labels[0].dtype}. Save them as integers"
        )
    # Images and labels, slice by slice
    names = slice_names(images_path, len(images))
    check_sizes(images_path, labels_path, [each.shape for each in images], [each.shape for each in labels])
    if volume.pairing == "number":
        check_pairs(images_path, labels_path)
    slices = split_slices(images_path, names, volume.split, volume.every)
    # A truncated file often has its headers, but not its last slice
    images[-1].compute()
    check_labels(labels_path, labels[-1].compute())
    return {
        "images": images_path,
        "labels": labels_path,
        "sizes": [each.shape for each in images],
        "slices": slices,
        "files": {part: _files(path) for part, path in (("images", images_path), ("labels", labels_path))},
    }


def read_volumes(manifest: str | Path) -> list[dict[str, Any]]:
    """Read the volumes of the manifest that the stage `raw` wrote. Their paths become relative to the working folder.

    Raises:
        DataError: A file of a volume was changed or lost since the manifest was written.
    """
    with intact(manifest):
        volumes: list[dict[str, Any]] = read_json(manifest)["volumes"]
    written = Path(manifest).stat().st_mtime_ns
    for volume in volumes:
        for part in ("images", "labels"):
            volume[part] = str(Path(manifest).parent / volume[part])
            files, recorded = files_of(volume[part]), volume["files"][part]
            missing = sorted(set(recorded["names"]) - {file.name for file in files if file.exists()})
            if missing:
                raise DataError(
                    f"{volume[part]}: {missing[0]} is missing since {manifest} was written. Put it back. Get "
                    "downloaded and generated files again with `snakemake --forcerun raw`"
                )
            newer = len(files) != recorded["count"] or any(file.stat().st_mtime_ns > written for file in files)
            if newer and _files(volume[part])["digest"] != recorded["digest"]:
                raise DataError(
                    f"{volume[part]}: changed since {manifest} was written for it. "
                    "Check the new files with `snakemake --forcerun raw`"
                )
    return volumes


def check_labels(path: str, labels: NDArray[np.integer[Any]]) -> None:
    """Refuse labels (YX) in which most neighbouring pixels differ, as they do in an image.

    In labels, an object is an area with one number.
    """
    differing = np.mean(labels[:, 1:] != labels[:, :-1]) if labels.shape[1] > 1 else 0.0
    if differing > LIKE_AN_IMAGE:
        raise DataError(
            f"{path}: expected numbers of objects, but in its last slice {differing:.0%} of neighbouring pixels "
            "differ, as in an image. Perhaps the paths of images and labels are exchanged"
        )


def check_pairs(images: str, labels: str) -> None:
    """Check that the files of two folders, which are paired in their order, have the same last numbers in their names.

    Names without numbers are not compared.

    Raises:
        DataError: The numbers of a pair differ. The message names the first such pair.
    """
    folders = [Path(path) for path in (images, labels)]
    if not all(folder.is_dir() and not is_zarr(folder) for folder in folders):
        return
    for image, label in zip(*map(slice_files, folders), strict=True):
        numbers = [re.findall(r"\d+", file.stem)[-1:] for file in (image, label)]
        if all(numbers) and int(numbers[0][0]) != int(numbers[1][0]):
            raise DataError(
                f"{labels}: expected labels for each slice of {images}, but {label.name} would belong to {image.name}. "
                "Complete the folder. If the two belong together, set `pairing: position` in the volume"
            )


def _files(path: str) -> dict[str, Any]:
    """Return the number, the names and a digest of the files of a stack.

    If the stack is a folder, `digests` has the digest of each slice. They show whether a slice is also elsewhere.
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
    """Return the names of the slices in a folder. In other formats, each of `count` slices has an empty name."""
    folder = Path(path)
    return [file.name for file in slice_files(folder)] if folder.is_dir() and not is_zarr(folder) else [""] * count


def check_sizes(images: str, labels: str, sizes: list[tuple[int, ...]], label_sizes: list[tuple[int, ...]]) -> None:
    """Check that images and labels have the same number of slices, and that their slices have the same sizes.

    Args:
        images: Path of the images, for messages.
        labels: Path of the labels.
        sizes: (height, width) of each slice of the images.
        label_sizes: (height, width) of each slice of the labels.

    Raises:
        DataError: They differ. The message names the first slice with another size.
    """
    if len(sizes) != len(label_sizes) or (sizes != label_sizes and len(set(sizes)) == len(set(label_sizes)) == 1):
        raise DataError(
            f"{labels}: expected {_sizes(sizes)}, as in {images}; found {_sizes(label_sizes)}. Check the two paths"
        )
    names = zip(slice_names(images, len(sizes)), slice_names(labels, len(sizes)), strict=True)
    for size, label_size, (image, label) in zip(sizes, label_sizes, names, strict=True):
        if size != label_size:
            raise DataError(
                f"{labels}: expected {_size(size)} pixels in {label}, as {image} of {images} has; found "
                f"{_size(label_size)}. Labels are paired with images in the order of their names. Complete the folder"
            )


def _sizes(sizes: list[tuple[int, ...]]) -> str:
    distinct = list(dict.fromkeys(sizes))
    more = f" and {len(distinct) - 1} other sizes" if len(distinct) > 1 else ""
    return f"{len(sizes)} slices of {_size(distinct[0])} pixels{more}"


def _size(size: tuple[int, ...]) -> str:
    return f"{size[0]} × {size[1]}"


def check_splits(volumes: list[dict[str, Any]]) -> None:
    """Check that no slice of the volumes is in two splits.

    Raises:
        DataError: Two volumes have a slice of the same file in two splits, or a slice and its copy.
    """
    splits: dict[tuple[str, int], str] = {}
    for volume in volumes:
        for index, split in volume["slices"]:
            other = splits.setdefault((volume["images"], index), split)
            if other != split:
                raise DataError(
                    f"{volume['images']}: slice {index} is both in {other} and in {split}. Take it out of one"
                )
    _check_copies(volumes)


def _is_blank(images: str, index: int) -> bool:
    """Return whether all pixels of a slice are equal, as in the first or last slices of some stacks."""
    pixels = open_slices(images)[index].compute()
    return bool((pixels == pixels[0, 0]).all())


def _check_copies(volumes: list[dict[str, Any]]) -> None:
    """Refuse a slice that is in two splits under two paths, as a copy or a link. Blank slices are allowed."""
    places: dict[tuple[str, str, int], tuple[str, str]] = {}
    for volume in volumes:
        files, match = volume["files"]["images"], HDF5.fullmatch(volume["images"])
        array = (match["dataset"] or "").strip("/") if match else ""  # a file can hold several arrays
        for index, split in volume["slices"]:
            same = (files["digests"][index], "", 0) if files["digests"] else (files["digest"], array, index)
            place, other = places.setdefault(same, (f"slice {index} of {volume['images']}", split))
            if split != other and not _is_blank(volume["images"], index):
                raise DataError(
                    f"{volume['images']}: slice {index}, which is in {split}, has the bytes of {place}, "
                    f"which is in {other}. Take one of them out"
                )
