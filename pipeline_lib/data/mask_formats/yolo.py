"""Write labels to train a YOLO model for segmentation (https://docs.ultralytics.com/datasets/segment/).

labels/NAME.txt  a line for each object: number of the class, then x and y of each corner as shares of width and height
data.yaml        names of the classes, and the folder of the images
"""

from pathlib import Path

import yaml

from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.mask_formats.classes import class_name, class_names
from pipeline_lib.data.mask_formats.file_names import image_files
from pipeline_lib.data.mask_formats.mask_format import MaskFormat, MaskSet
from pipeline_lib.data.outlines import one_ring


def write_yolo(masks: MaskSet, path: Path) -> None:
    """Write a file for each image or slice of a stack: `NAME_0003.txt` for slice 3, counted from 0.

    YOLO has one polygon for an object. Lines without width join holes and parts to it. The file of an image without
    objects is empty, which is background for YOLO. Images are not copied.

    Args:
        masks: The masks.
        path: A folder that does not exist yet.
    """
    images, names = masks.instances.prompts.images, class_names(masks.instances.prompts)
    slices = [(image, z) for image in images for z in range(image.shape[0])]
    slice_names = [_slice_name(image, z) for image, z in slices]
    files = image_files(path / "labels", slice_names, ".txt")
    for (image, z), name in zip(slices, slice_names, strict=True):
        _, height, width = image.shape
        lines = [_line(masks, number, names, (height, width)) for number in masks.instances.in_slice(image.name, z)]
        files[name].write_text("".join(lines), encoding="utf-8")
    record = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(names))}
    (path / "data.yaml").write_text(yaml.safe_dump(record, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _slice_name(image: ImageFile, z: int) -> str:
    """Return the name of an image. If it is a stack, the number of the slice stands before the suffix."""
    path = Path(image.name)
    return image.name if image.shape[0] == 1 else str(path.with_name(f"{path.stem}_{z:04}{path.suffix}"))


def _line(masks: MaskSet, number: int, names: list[str], shape: tuple[int, int]) -> str:
    height, width = shape
    parts = masks.instances.polygons(number)
    corners = one_ring([ring for part in parts for ring in (part.exterior, *part.holes)]) / (width, height)
    numbers = [f"{value:.8g}" for value in corners.ravel()]
    return " ".join([str(names.index(class_name(masks.instances.prompts, number))), *numbers]) + "\n"


YOLO = MaskFormat(name="yolo", file="yolo", program="Ultralytics", write=write_yolo)
