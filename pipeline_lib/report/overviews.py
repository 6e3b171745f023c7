"""Show whole slices with the outlines of their objects, in pictures that are small enough for a page."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.instances import Instances
from pipeline_lib.data.mask_formats.ome_zarr import picture
from pipeline_lib.data.outlines import Polygon, Ring, polygons
from pipeline_lib.report.examples import data_uri

PIXELS = 8_000_000  # limit for all pictures of a page together
SMALLEST, LARGEST = 256, 1600  # limits of the longer side of a picture, pixels
DRAWN = 5_000  # limit for the objects in all pictures of a page


@dataclass(frozen=True)
class Outlined:
    """An object in a picture."""

    number: int
    says: str  # description: number, class and flags
    is_flagged: bool
    path: str  # outline as an SVG path, in pixels of the picture


@dataclass(frozen=True)
class Overview:
    """A slice of an image with its objects."""

    heading: str
    size: tuple[int, int]  # width and height of the picture, pixels
    picture: str  # data URI
    objects: list[Outlined]  # larger ones first, so that smaller ones lie on top
    count: int  # of objects in the slice; `objects` can have fewer

    @property
    def listed(self) -> list[Outlined]:
        """The objects sorted by number, the flagged ones first."""
        return sorted(self.objects, key=lambda each: (not each.is_flagged, each.number))


def overviews(instances: Instances, table: pd.DataFrame, labels: Path) -> Iterator[Overview]:
    """Yield the slices with prompted boxes, in the order of the set.

    If there are too many for a page, those with most flags are shown. Pictures are larger if there are fewer of them.

    Args:
        instances: Masks, boxes and images.
        table: Table of `objects_table`, with the column `title`: what the page calls each object.
        labels: OME-Zarr of the set. The pictures are made from its pyramids.
    """
    rows_by_slice = _choose_slices(table[table["area"].notna()])
    side = int(np.clip((PIXELS / max(1, len(rows_by_slice))) ** 0.5, SMALLEST, LARGEST))
    for image in instances.prompts.images:
        for z in range(image.shape[0]):
            if (image.name, z) in rows_by_slice:
                pixels = Image.fromarray(picture(labels / image.name, z, side))
                yield _overview(image, z, rows_by_slice[image.name, z], pixels, instances)


def _choose_slices(prompted: pd.DataFrame) -> dict[tuple[str, int], pd.DataFrame]:
    """Return the rows of each image and slice to show, the flagged ones first."""
    slices = {
        (str(rows["image"].iloc[0]), int(rows["slice"].iloc[0])): rows
        for _, rows in prompted.groupby(["image", "slice"])
    }
    flagged_first = {
        place: rows.loc[(rows["flags"] == "").sort_values(kind="stable").index] for place, rows in slices.items()
    }
    by_flags = sorted(slices, key=lambda place: -int((slices[place]["flags"] != "").sum()))[: PIXELS // SMALLEST**2]
    counts = np.cumsum([len(slices[place]) for place in by_flags])
    fitting = max(1, int((counts <= DRAWN).sum()))  # a single image can have more objects
    return {place: flagged_first[place] for place in by_flags[:fitting]}


def _overview(image: ImageFile, z: int, rows: pd.DataFrame, pixels: Image.Image, instances: Instances) -> Overview:
    _, height, width = image.shape
    steps = width / pixels.width, height / pixels.height
    ordered = rows.head(DRAWN).sort_values("area", ascending=False, kind="stable")
    return Overview(
        heading=image.name if image.shape[0] == 1 else f"{image.name}, slice {z}",
        size=pixels.size,
        picture=data_uri(pixels, "jpeg", quality=80),
        objects=[
            Outlined(
                number=int(str(number)),
                says=row["title"] + (f": {row['flags']}" if row["flags"] else ""),
                is_flagged=row["flags"] != "",
                path=_path(instances, int(str(number)), row, steps),
            )
            for number, row in ordered.iterrows()
        ],
        count=len(rows),
    )


def _path(instances: Instances, number: int, row: pd.Series, steps: tuple[float, float]) -> str:
    """Return the outline of an object in a picture, or its box if no pixel of the picture shows it."""
    if number not in instances.masks:
        return _box_path(row[["given_x0", "given_y0", "given_x1", "given_y1"]].to_numpy(float), steps)
    mask = instances.masks[number]
    (x, columns), (y, rows) = _sample(mask.x0, mask.x1, steps[0]), _sample(mask.y0, mask.y1, steps[1])
    parts = polygons(instances.crop(number)[np.ix_(rows, columns)], x, y)
    return svg_path(parts) or _box_path(np.array(mask[-4:], float), steps)


def _sample(start: int, stop: int, step: float) -> tuple[int, NDArray[np.int64]]:
    """Return which pixels of a picture show a range of the image's pixels, and which image pixels they show.

    Args:
        start: First pixel of the range in the image.
        stop: End of the range.
        step: Pixels of the image per pixel of the picture.

    Returns:
        The first pixel of the picture whose centre is in the range; and for this and each further such pixel the
        image pixel at its centre, counted from `start`.
    """
    first, end = (int(np.ceil(edge / step - 0.5)) for edge in (start, stop))
    centres = np.floor((np.arange(first, end) + 0.5) * step).astype(np.int64)
    return first, np.clip(centres - start, 0, stop - start - 1)


def svg_path(parts: Sequence[Polygon]) -> str:
    """Return polygons as an SVG path. It is short because edges are alternately horizontal and vertical."""
    return "".join(_ring_path(ring) for part in parts for ring in (part.exterior, *part.holes))


def _ring_path(ring: Ring) -> str:
    (x, y), steps = ring[0], np.diff(ring, axis=0)
    edges = [f"h{dx}" if index % 2 == 0 else f"v{dy}" for index, (dx, dy) in enumerate(steps.tolist())]
    return f"M{x} {y}{''.join(edges)}z"


def _box_path(box: NDArray[np.float64], steps: tuple[float, float]) -> str:
    x0, y0, x1, y1 = (box / np.tile(steps, 2)).round(1).tolist()
    return f"M{x0} {y0}H{x1}V{y1}H{x0}z"
