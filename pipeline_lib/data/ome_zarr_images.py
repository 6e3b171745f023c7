"""Find the pixels of an image in the layouts of OME-Zarr that other programs write.

The metadata name the array with the full resolution and its axes (https://ngff.openmicroscopy.org). They are the
attributes of the group up to version 0.4, and lie below the key `ome` in later versions.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr

from pipeline_lib.data.pixel_rules import listed_axes
from pipeline_lib.errors import DataError

LAYOUT = "bioformats2raw.layout"  # marks a group whose groups `0`, `1`, … are images


def full_resolution(path: Path) -> tuple[Any, str | None]:
    """Return the array with the full resolution of a Zarr folder, and a letter for each axis.

    Args:
        path: An array, an OME-Zarr image, or a group with one image in the layout of bioformats2raw.

    Returns:
        The array, and its axes such as "zyx". The axes are None if nothing names them.

    Raises:
        DataError: The folder is another group, or holds several images.
    """
    node = zarr.open(path, mode="r")
    if isinstance(node, zarr.Array):
        return node, None
    metadata = _metadata(node)
    if LAYOUT in metadata:
        node = _only_image(path, node)
        metadata = _metadata(node)
    if not metadata.get("multiscales"):
        if isinstance(array := node.get("0"), zarr.Array):
            return array, None
        raise DataError(
            f"{path}: expected a Zarr array or an OME-Zarr image, found a group of {_listing(node)}. Name one of them, "
            f"such as {path}/{next(iter(sorted(node)), 'NAME')}"
        )
    image = metadata["multiscales"][0]  # if there are several, the first one is the default
    array = node.get(image["datasets"][0]["path"])
    if not isinstance(array, zarr.Array):
        raise DataError(
            f"{path}: expected the array {image['datasets'][0]['path']!r}, which the metadata name, but it is "
            "missing. Copy the folder again"
        )
    axes = listed_axes(image["axes"]) if image.get("axes") else None
    if axes is not None and len(axes) != array.ndim:
        raise DataError(
            f"{path}: expected an array with the axes {axes.upper()}, which the metadata name; found {array.ndim} "
            "axes. Write the image again"
        )
    return array, axes


def _metadata(group: zarr.Group) -> Mapping[str, Any]:
    attributes: Mapping[str, Any] = dict(group.attrs)
    inner = attributes.get("ome", attributes)
    return inner if isinstance(inner, dict) else {}


def _only_image(path: Path, group: zarr.Group) -> Any:
    numbered = sorted((name for name, _ in group.groups() if name.isdecimal()), key=int)
    ome = group.get("OME")
    images = _metadata(ome).get("series", numbered) if isinstance(ome, zarr.Group) else numbered
    if len(images) != 1:
        raise DataError(
            f"{path}: expected one image, found {len(images)} ({_listing(images)}); name one of them"
            f"{f', such as {path}/{images[0]}' if images else ''}"
        )
    return group[images[0]]


def _listing(things: Any) -> str:
    return ", ".join(sorted(map(str, things))) or "nothing"
