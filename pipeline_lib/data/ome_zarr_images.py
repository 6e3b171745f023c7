"""Find the pixels of an image in the layouts of OME-Zarr that other programs write.

The metadata say which array is the full resolution, and what its axes are (https://ngff.openmicroscopy.org). Versions
up to 0.4 keep them in the attributes of the group, and later ones below the key `ome`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import zarr

from pipeline_lib.data.pixel_rules import listed_axes
from pipeline_lib.errors import DataError

LAYOUT = "bioformats2raw.layout"  # marks a group whose groups `0`, `1`, … are images


def full_resolution(path: Path) -> tuple[Any, str | None]:
    """Return the array of a Zarr folder, and a letter for each of its axes; None if nothing names the axes.

    The folder is an array, an OME-Zarr image, or a group in the layout of bioformats2raw with one image.

    Raises:
        DataError: It is another group, or holds several images.
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
    image = metadata["multiscales"][0]  # a group with several lists the one to show first
    array = node.get(image["datasets"][0]["path"])
    if not isinstance(array, zarr.Array):
        raise DataError(f"{path}: its metadata name the array {image['datasets'][0]['path']!r}, which is not there")
    axes = listed_axes(image["axes"]) if image.get("axes") else None
    if axes is not None and len(axes) != array.ndim:
        raise DataError(f"{path}: its metadata name the axes {axes.upper()}, but its array has {array.ndim} axes")
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
