"""Pair the images of a user with their labels, and choose which are held out."""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import tifffile

from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.boxes import read_objects
from pipeline_lib.data.drawn_labels import drawn_labels
from pipeline_lib.data.image_files import is_zarr
from pipeline_lib.data.images import ImageFile, find_images, open_images
from pipeline_lib.data.readers import open_labels, open_stack
from pipeline_lib.errors import DataError
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.base import GreyRange
from pipeline_lib.settings.datasets import BinaryLabels, InstanceLabels, Labels, Split, Volume
from pipeline_lib.settings.segment import FixedGrey

OUTLINES = {".json", ".zip", ".roi"}  # suffixes of files with outlines
LabelsAre = Literal["instances", "binary"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledStack:
    """An image, which is a stack of one or more slices, with its labels."""

    name: str
    images: str  # path, as in `open_stack`
    labels: str  # path, as in `open_labels`
    slices: tuple[int, ...]  # slices with objects
    values: frozenset[int]  # values of the labels, without 0


def labelled_stacks(
    images: str, labels: Sequence[str], grey_range: GreyRange | None, drawn: Path
) -> list[LabelledStack]:
    """Return the images that have labels with objects, in the order of their names.

    Args:
        images: A folder of images or one stack, as in `open_images`.
        labels: A folder or stack of label images, or files of outlines (COCO, Fiji).
        grey_range: Grey values that become black and white. None if all images are 8-bit.
        drawn: Folder for the label images that are drawn from outlines.

    Raises:
        DataError: An image or a label cannot be read, a label image has no image, or no label has an object.
    """
    _check_apart(images, labels)
    files = _open_images(images, grey_range)
    # Path of the labels of each image
    outlines = _outline_files(labels)
    if outlines:
        paths = _write_drawn(outlines, files, drawn)
    elif len(labels) > 1:
        raise DataError(
            f"{', '.join(labels)}: expected one folder or stack of label images, or files of outlines "
            f"(COCO .json, Fiji .zip or .roi); found {len(labels)} paths. Put the label images into one folder"
        )
    else:
        paths = _pair(images, files, labels[0])
    # Images whose labels have objects
    stacks = [labelled_stack(image.name, image.path, paths[image.name]) for image in files if image.name in paths]
    usable = [stack for stack in stacks if stack.slices]
    if not usable:
        raise DataError(
            f"{', '.join(labels)}: expected labels with objects, found only 0 in {len(stacks)} label images. "
            "0 is background, so each object needs another number"
        )
    if len(usable) < len(files):
        log.info("%d of %d images have no labelled object and are not used", len(files) - len(usable), len(files))
    return usable


def label_rule(stacks: Sequence[LabelledStack], labels_are: LabelsAre | None) -> Labels:
    """Return what the values of labels mean.

    Labels with one value besides 0 are binary: each connected component is an object. Others number their objects.

    Args:
        stacks: Images with labels.
        labels_are: What the user says about the labels; None decides by their values.

    Raises:
        DataError: The labels must be binary, but have several values besides 0.
    """
    values = sorted(frozenset().union(*(stack.values for stack in stacks)))
    if labels_are == "instances" or (labels_are is None and len(values) > 1):
        return InstanceLabels(kind="instances")
    if len(values) > 1:
        listed = ", ".join(map(str, values[:5]))
        raise DataError(
            f"{stacks[0].labels}: expected binary labels, with one value besides 0; found {len(values)} ({listed}, …). "
            "Leave out --labels-are binary if each number is an object"
        )
    return BinaryLabels(kind="binary", foreground=values[0])


def held_out(count: int, share: float) -> list[int]:
    """Return which of `count` images are held out: about `share` of them, evenly spaced, at least one, and not all."""
    number = min(count - 1, max(1, round(share * count)))
    return [int((index + 0.5) * count / number) for index in range(number)]


def volumes_of(stacks: Sequence[LabelledStack], share: float) -> tuple[Volume, ...]:
    """Return the stacks as volumes of a data set, with a training and a validation split.

    If there are several images, evenly spaced ones are held out. If there is one stack, its last slices are held out.
    Neighbouring slices are alike, so slices between training slices would score better than new images.

    Args:
        stacks: Images with labels.
        share: Share of the images that is held out.

    Raises:
        DataError: There is only one image with one slice.
    """
    if len(stacks) > 1:
        out = held_out(len(stacks), share)
        return tuple(
            _volume(stack, **{"validation" if number in out else "train": (0, stack.slices[-1] + 1)})
            for number, stack in enumerate(stacks)
        )
    (stack,) = stacks
    if len(stack.slices) < 2:
        raise DataError(
            f"{stack.images}: expected at least two images or slices with labelled objects, because one is held out to "
            "measure whether training helps; found one. Label a second image, or cut this one and its labels in two"
        )
    edge = stack.slices[-len(held_out(len(stack.slices), share))]
    return (_volume(stack, train=(stack.slices[0], edge), validation=(edge, stack.slices[-1] + 1)),)


def _volume(stack: LabelledStack, **split: tuple[int, int]) -> Volume:
    return Volume(images=stack.images, labels=stack.labels, split=Split(**split))


def _check_apart(images: str, labels: Sequence[str]) -> None:
    """Refuse label images below the folder of the images, and images below that of the labels.

    Both folders are read with their subfolders.
    """
    place = Path(images).resolve()
    if not place.is_dir() or is_zarr(place):
        return
    for label in map(Path, labels):
        folder = label.resolve()
        nested = folder == place or folder in place.parents or place in folder.parents
        if nested and label.is_dir() and any(find_images(str(label))):
            raise DataError(
                f"{label}: expected labels outside the folder of the images, because subfolders are read too. Put the "
                "labels into a folder beside that of the images, or name only the file of outlines"
            )


def _open_images(path: str, grey_range: GreyRange | None) -> list[ImageFile]:
    images = open_images(path, FixedGrey(range=grey_range or (0, 255)))
    for image in images:
        dtype = open_stack(image.path).dtype
        if grey_range is None and dtype != np.uint8:
            raise DataError(
                f"{image.path}: expected an 8-bit image, found {dtype}. Choose the grey values that become black and "
                "white with --range"
            )
    return images


def _outline_files(labels: Sequence[str]) -> list[Path]:
    """Return the files of outlines among the paths, and those in folders without label images."""
    files: list[Path] = []
    for label in map(Path, labels):
        if label.is_dir():
            files += _outlines_in(label)
        elif label.suffix.lower() in OUTLINES:
            files.append(label)
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: there is no such file of outlines; check the path")
    return files


def _outlines_in(folder: Path) -> list[Path]:
    """Return the files of outlines in a folder. There are none if it holds label images.

    Raises:
        DataError: The folder has outlines, and its subfolders have images.
    """
    images = [Path(name) for name, _ in find_images(str(folder))]
    outlines = sorted(file for file in folder.iterdir() if file.suffix.lower() in OUTLINES)
    if images and outlines and all(len(image.parts) > 1 for image in images):
        raise DataError(
            f"{folder}: expected outlines or label images, found both, {outlines[0].name} and {images[0]}. Name the "
            "files of outlines, or the folder of the label images"
        )
    return [] if images else outlines


def _write_drawn(outlines: Sequence[Path], images: Sequence[ImageFile], folder: Path) -> dict[str, str]:
    """Write a label image (TIFF) for each image with outlines, and return their paths by the name of the image."""
    labels = drawn_labels(outlines, Images({image.name: image.shape for image in images}, len(outlines) == 1))
    for image in images:
        if image.name in labels and image.shape[0] > 1:
            raise DataError(
                f"{image.path}: expected one slice, because labels are outlines; found {image.shape[0]}. Save each "
                "slice as a file, or use a stack of label images"
            )
    with atomic(folder) as unfinished:
        unfinished.mkdir(parents=True)
        for name, pixels in labels.items():
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(unfinished / f"{name}.tif", pixels)
    return {name: str(folder / f"{name}.tif") for name in labels}


def _pair(folder: str, images: Sequence[ImageFile], labels: str) -> dict[str, str]:
    """Return the path of the label image of each image, by the name of the image.

    They are paired by name. If some names differ, they are paired in order, if the numbers in the names agree.

    Args:
        folder: Path of the images, for messages.
        images: The images.
        labels: Folder or stack of label images.

    Raises:
        DataError: There is no label image, two label images belong to one image, or one belongs to no image.
    """
    files = list(find_images(labels))
    if not files:
        raise DataError(
            f"{labels}: there are no labels; expected TIFF or PNG label images, COCO .json files, or regions of Fiji. "
            "Check the path"
        )
    if len(images) == len(files) == 1:
        return {images[0].name: files[0][1]}
    # By name
    names = Images({image.name: image.shape for image in images}, one_file=False)
    pairs: dict[str, str] = {}
    unpaired = []
    for name, path in files:
        image = names.find(name)
        if image not in names.shapes:
            unpaired.append(name)
        elif image in pairs:
            raise DataError(
                f"{path}: expected one label image for {image}, but {pairs[image]} is one too. Remove one of them"
            )
        else:
            pairs[image] = path
    if not unpaired:
        return pairs
    # In order
    if len(files) == len(images) and all(
        _have_same_number(image.name, name) for image, (name, _) in zip(images, files, strict=True)
    ):
        return {image.name: path for image, (_, path) in zip(images, files, strict=True)}
    raise DataError(
        f"{labels}: expected label images with the names of their images, but no image in {folder} has the name of "
        f"{unpaired[0]}. Give each label image the name of its image, with any suffix, or save both as one stack"
    )


def _have_same_number(name: str, other: str) -> bool:
    """Return whether two files have the same last number in their names, and lie in folders with the same name."""
    return Path(name).parent == Path(other).parent and _number(name) == _number(other) is not None


def _number(name: str) -> int | None:
    """Return the last number in the name of a file; None if there is none."""
    numbers = re.findall(r"\d+", Path(name).stem)
    return int(numbers[-1]) if numbers else None


def labelled_stack(name: str, images: str, labels: str) -> LabelledStack:
    """Return an image with its labels. All labels are read.

    Args:
        name: Name of the image.
        images: Path, as in `open_stack`.
        labels: Path, as in `open_labels`.

    Raises:
        DataError: The labels cannot be read, or are not integers.
    """
    stack = open_labels(labels)
    if stack.dtype.kind not in "biu":
        raise DataError(f"{labels}: expected labels with whole numbers, found {stack.dtype}. Save them as integers")
    values = [set(map(int, np.unique(each.compute()))) - {0} for each in stack]
    slices = tuple(index for index, each in enumerate(values) if each)
    return LabelledStack(name, os.path.abspath(images), os.path.abspath(labels), slices, frozenset().union(*values))


def take_part(*, boxes: str, chosen: str, objects: int | None, held_out: int) -> None:
    """Write the boxes of the objects that a fine-tuning uses, so that no other tile is encoded.

    Args:
        boxes: CSV of the stage `boxes`.
        chosen: CSV to write.
        objects: Largest number of objects of the training split, evenly spaced. None takes all.
        held_out: Largest number of objects of the validation split, evenly spaced.
    """
    parts = [read_objects(boxes, "train", objects), read_objects(boxes, "validation", held_out)]
    table = pd.concat(parts).sort_values(["tile", "object"], kind="stable")
    with atomic(chosen) as partial:
        table.to_csv(partial, index=False)
