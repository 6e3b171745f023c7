"""A user's labelled images: each image with its label image, and which images are held out."""

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

OUTLINES = {".json", ".zip", ".roi"}  # suffixes of files that hold outlines
LabelsAre = Literal["instances", "binary"]
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledStack:
    """An image, a stack of one or more slices, with its labels."""

    name: str
    images: str  # path, as of `open_stack`
    labels: str  # path, as of `open_labels`
    slices: tuple[int, ...]  # that have objects
    values: frozenset[int]  # of its labels, without 0


def labelled_stacks(
    images: str, labels: Sequence[str], grey_range: GreyRange | None, drawn: Path
) -> list[LabelledStack]:
    """Return the images that have labels with objects, in the order of their names.

    Args:
        images: a folder of images or one stack, as of `open_images`.
        labels: a folder or stack of label images, or files of outlines (COCO, Fiji).
        grey_range: grey values that become black and white; None if all images are 8-bit.
        drawn: folder for the label images of outlines.

    Raises:
        DataError: an image or a label cannot be read, a label image has no image, or no label has an object.
    """
    _check_apart(images, labels)
    found = _open_images(images, grey_range)
    outlines = _outline_files(labels)
    if outlines:
        paths = _write_drawn(outlines, found, drawn)
    elif len(labels) > 1:
        raise DataError(
            f"{', '.join(labels)}: expected one folder or stack of label images, or files of outlines "
            "(COCO .json, Fiji .zip or .roi); put the label images into one folder"
        )
    else:
        paths = _paired(images, found, labels[0])
    stacks = [labelled_stack(image.name, image.path, paths[image.name]) for image in found if image.name in paths]
    usable = [stack for stack in stacks if stack.slices]
    if not usable:
        raise DataError(
            f"{', '.join(labels)}: expected labels with objects, found only 0 in {len(stacks)} label images; "
            "0 is background, each object needs another number"
        )
    if len(usable) < len(found):
        log.info("%d of %d images have no labelled object and take no part", len(found) - len(usable), len(found))
    return usable


def label_rule(stacks: Sequence[LabelledStack], labels_are: LabelsAre | None) -> Labels:
    """Return what the values of the labels mean.

    Labels with one value besides 0 are binary: each connected part is an object. Others number their objects.

    Raises:
        DataError: the labels must be binary but have several values besides 0.
    """
    values = sorted(frozenset().union(*(stack.values for stack in stacks)))
    if labels_are == "instances" or (labels_are is None and len(values) > 1):
        return InstanceLabels(kind="instances")
    if len(values) > 1:
        listed = ", ".join(map(str, values[:5]))
        raise DataError(
            f"{stacks[0].labels}: binary labels have one value besides 0, found {len(values)} ({listed}, …); "
            "leave out --labels-are binary if each number is an object"
        )
    return BinaryLabels(kind="binary", foreground=values[0])


def held_out(count: int, share: float) -> list[int]:
    """Return which of `count` images are held out: at least one, evenly spaced, and never all."""
    wanted = min(count - 1, max(1, round(share * count)))
    return [int((number + 0.5) * count / wanted) for number in range(wanted)]


def volumes_of(stacks: Sequence[LabelledStack], share: float) -> tuple[Volume, ...]:
    """Return the stacks as volumes of a data set, with images to train on and held-out ones.

    Of several images, evenly spaced ones are held out. Of a single stack, its last slices are: slices side by side are
    alike, so those between training slices would look better than new images do.

    Raises:
        DataError: there is one image of one slice.
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
            f"{stack.images}: expected at least two images or slices with labelled objects, found one; one of them is "
            "held out to see whether training helps. Label a second image, or cut this one and its labels in two"
        )
    edge = stack.slices[-len(held_out(len(stack.slices), share))]
    return (_volume(stack, train=(stack.slices[0], edge), validation=(edge, stack.slices[-1] + 1)),)


def _volume(stack: LabelledStack, **split: tuple[int, int]) -> Volume:
    return Volume(images=stack.images, labels=stack.labels, split=Split(**split))


def _check_apart(images: str, labels: Sequence[str]) -> None:
    """Refuse label images in the folder of the images, or the other way round: both are read with their folders."""
    place = Path(images).resolve()
    if not place.is_dir() or is_zarr(place):
        return
    for label in map(Path, labels):
        folder = label.resolve()
        nested = folder == place or folder in place.parents or place in folder.parents
        if nested and label.is_dir() and any(find_images(str(label))):
            raise DataError(
                f"{label}: the labels are expected apart from the images, as folders are read with the folders in "
                "them; put the labels into a folder beside that of the images, or name the file of outlines alone"
            )


def _open_images(path: str, grey_range: GreyRange | None) -> list[ImageFile]:
    images = open_images(path, FixedGrey(range=grey_range or (0, 255)))
    for image in images:
        dtype = open_stack(image.path).dtype
        if grey_range is None and dtype != np.uint8:
            raise DataError(
                f"{image.path}: expected an 8-bit image, found {dtype}; give the grey values that become black and "
                "white with --range"
            )
    return images


def _outline_files(labels: Sequence[str]) -> list[Path]:
    """Return files of outlines: those that are named, and those of folders that hold no label image."""
    files: list[Path] = []
    for label in map(Path, labels):
        if label.is_dir():
            files += _outlines_in(label)
        elif label.suffix.lower() in OUTLINES:
            files.append(label)
    for file in files:
        if not file.is_file():
            raise DataError(f"{file}: expected a file of outlines, but there is no such file; check the path")
    return files


def _outlines_in(folder: Path) -> list[Path]:
    """Return the files of outlines in a folder, none if it holds label images."""
    images = [Path(name) for name, _ in find_images(str(folder))]
    outlines = sorted(file for file in folder.iterdir() if file.suffix.lower() in OUTLINES)
    if images and outlines and all(len(image.parts) > 1 for image in images):
        raise DataError(
            f"{folder}: expected outlines or label images, found {outlines[0].name} and {images[0]}; give the files "
            "of outlines, or the folder of the label images"
        )
    return [] if images else outlines


def _write_drawn(outlines: Sequence[Path], images: Sequence[ImageFile], folder: Path) -> dict[str, str]:
    """Write the label image of each image that has outlines as TIFF, and return their paths by image."""
    labels = drawn_labels(outlines, Images({image.name: image.shape for image in images}, len(outlines) == 1))
    for image in images:
        if image.name in labels and image.shape[0] > 1:
            raise DataError(
                f"{image.path}: outlines are of images with one slice, but this has {image.shape[0]}; "
                "save its slices as files of their own, or give a stack of label images"
            )
    with atomic(folder) as unfinished:
        unfinished.mkdir(parents=True)
        for name, pixels in labels.items():
            (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(unfinished / f"{name}.tif", pixels)
    return {name: str(folder / f"{name}.tif") for name in labels}


def _paired(images: str, found: Sequence[ImageFile], labels: str) -> dict[str, str]:
    """Return the path of each image's labels by the image's name: by name, else in order if the numbers agree."""
    files = list(find_images(labels))
    if not files:
        raise DataError(
            f"{labels}: holds no labels; expected TIFF or PNG label images, COCO .json files, or regions of Fiji"
        )
    if len(found) == len(files) == 1:
        return {found[0].name: files[0][1]}
    names = Images({image.name: image.shape for image in found}, one_file=False)
    pairs: dict[str, str] = {}
    strangers = []
    for name, path in files:
        image = names.find(name)
        if image not in names.shapes:
            strangers.append(name)
        elif image in pairs:
            raise DataError(f"{path}: expected one label image for {image}, but {pairs[image]} is one too; remove one")
        else:
            pairs[image] = path
    if not strangers:
        return pairs
    if len(files) == len(found) and all(
        _alike(image.name, name) for image, (name, _) in zip(found, files, strict=True)
    ):
        return {image.name: path for image, (_, path) in zip(found, files, strict=True)}
    raise DataError(
        f"{labels}: {strangers[0]} has the name of no image in {images}; name each label image like its image, "
        "with any suffix, or give both as one stack"
    )


def _alike(name: str, other: str) -> bool:
    """Return whether two files lie in folders of one name and have the same last number."""
    return Path(name).parent == Path(other).parent and _number(name) == _number(other) is not None


def _number(name: str) -> int | None:
    """Return the last number in the name of a file."""
    numbers = re.findall(r"\d+", Path(name).stem)
    return int(numbers[-1]) if numbers else None


def labelled_stack(name: str, images: str, labels: str) -> LabelledStack:
    """Return an image with its labels.

    Args:
        name: of the image.
        images: path, as of `open_stack`.
        labels: path, as of `open_labels`.

    Raises:
        DataError: the labels cannot be read or are not integers.
    """
    stack = open_labels(labels)
    if stack.dtype.kind not in "biu":
        raise DataError(f"{labels}: expected whole numbers, found {stack.dtype}; save the labels as integers")
    values = [set(map(int, np.unique(each.compute()))) - {0} for each in stack]
    slices = tuple(index for index, each in enumerate(values) if each)
    path = os.path.abspath
    return LabelledStack(name, path(images), path(labels), slices, frozenset().union(*values))


def take_part(*, boxes: str, chosen: str, objects: int | None, held_out: int) -> None:
    """Write the rows of a table of boxes that take part, so that no tile is encoded for nothing.

    Args:
        boxes: CSV of the stage boxes.
        chosen: CSV to write.
        objects: largest number of objects of the training split, evenly spaced; None takes all.
        held_out: largest number of objects of the validation split, evenly spaced.
    """
    parts = [read_objects(boxes, "train", objects), read_objects(boxes, "validation", held_out)]
    table = pd.concat(parts).sort_values(["tile", "object"], kind="stable")
    with atomic(chosen) as partial:
        table.to_csv(partial, index=False)
