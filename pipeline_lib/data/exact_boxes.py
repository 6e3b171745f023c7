"""Compute the exact boxes of the objects in label images, to compare other boxes with them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipeline_lib.data.boxes import XYXY, object_boxes
from pipeline_lib.data.images import Shape, find_images, log_folders
from pipeline_lib.data.labelled_images import LabelledStack, LabelsAre, label_rule, labelled_stack
from pipeline_lib.data.readers import open_labels
from pipeline_lib.data.tiling import components
from pipeline_lib.errors import DataError
from pipeline_lib.settings.datasets import Labels


@dataclass(frozen=True)
class ExactBoxes:
    """The objects of label images."""

    shapes: Mapping[str, Shape]
    """Shape of each label image (ZYX, pixels) by its name."""
    objects: pd.DataFrame
    """A row for each object: `image`, `slice` (from 0), `object`, its box XYXY, half-open, in pixels of the slice."""


def exact_boxes(labels: str, labels_are: LabelsAre | None, minimum_area: int) -> ExactBoxes:
    """Return the exact boxes of the objects in label images.

    A label image stands for the image that it belongs to. As in training, an object is a connected component of one
    slice (`components`).

    Args:
        labels: A folder of label images, or one stack, as in `open_images`.
        labels_are: What their values mean. None decides as `label_rule` does.
        minimum_area: Smallest area of an object, pixels. Smaller ones are left out.

    Raises:
        DataError: There are no labels, they cannot be read, or they hold no object.
    """
    stacks = [labelled_stack(name, path, path) for name, path in find_images(labels)]
    log_folders(labels, [stack.name for stack in stacks])
    if not any(stack.slices for stack in stacks):
        raise DataError(
            f"{labels}: expected label images with objects, found none in {len(stacks)} files; give a folder of label "
            "images with the names of their images, or one stack"
        )
    rule = label_rule(stacks, labels_are)
    rows = [row for stack in stacks for row in _objects(stack, rule, minimum_area)]
    if not rows:
        raise DataError(f"{labels}: expected objects of at least {minimum_area} pixels, found none; lower that number")
    shapes = {stack.name: open_labels(stack.labels).shape for stack in stacks}
    return ExactBoxes(shapes, pd.DataFrame(rows))


def _objects(stack: LabelledStack, rule: Labels, minimum_area: int) -> Iterator[dict[str, Any]]:
    slices = open_labels(stack.labels)
    for z in stack.slices:
        numbers = components(slices[z].compute(), rule, minimum_area)
        for number, *box, _ in object_boxes(numbers):
            yield {"image": stack.name, "slice": z, "object": number, **dict(zip(XYXY, box, strict=True))}
