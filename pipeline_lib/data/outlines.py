"""Outlines of masks along the edges of their pixels, for formats that hold polygons.

A polygon has corners XY, at whole numbers: the pixel in row 0 and column 0 has the corners (0, 0) and (1, 1). Filling
the outlines gives back exactly the mask. Libraries were weighed: contours of scikit-image and OpenCV run through the
centres of pixels or halfway between them, and rasterio, whose shapes run along the edges, brings GDAL.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline_lib.data.masks import Mask

Ring = NDArray[np.int64]  # (N, 2), corners XY; the last one is joined to the first


class Polygon(NamedTuple):
    """A 4-connected part of a mask. No ring crosses itself or another one; rings can touch at corners."""

    exterior: Ring  # clockwise as seen, with y downwards
    holes: list[Ring]  # the other way round


def polygons(mask: Mask, x: int = 0, y: int = 0) -> list[Polygon]:
    """Return the outlines of a mask, a polygon for each part, in reading order.

    Args:
        mask: YX.
        x: Column of the mask's first pixel in the image.
        y: Row of the mask's first pixel in the image.
    """
    padded = np.pad(mask, 1)
    parts, _ = ndimage.label(padded)
    found: dict[int, Polygon] = {}
    for ring in _rings(parts):
        column, row = ring[0]  # the first corner in reading order: the pixel below and right of it, or the one above
        moved = ring + np.array([x - 1, y - 1])
        if padded[row, column]:
            found[parts[row, column]] = Polygon(moved, [])
        else:
            found[parts[row - 1, column]].holes.append(moved[::-1])
    return list(found.values())


def one_ring(rings: list[Ring]) -> Ring:
    """Join rings into one that encloses the same area, by lines of no width from the first corner of the first ring.

    Formats that know a single ring can so keep holes and parts.
    """
    start = rings[0][:1]
    joined = [rings[0]]
    for ring in rings[1:]:
        joined += [start, ring, ring[:1]]
    return np.concatenate(joined)


def _rings(parts: NDArray[np.int32]) -> list[Ring]:
    """Return the rings around numbered parts YX, which do not reach the ends, by their first corners in reading order.

    A corner of a ring is where one or three of four pixels belong to a part; it ends a horizontal and a vertical edge.
    Along each row of corners, edges join the first corner and the second, the third and the fourth, and so on; so
    they do along each column.
    """
    x, y, twin = _corners(parts)
    along_rows = np.lexsort((x, y))
    along_columns = np.lexsort((twin, y, x))
    horizontal, vertical = _partners(along_rows), _partners(along_columns)
    left, rings = [True] * len(x), []
    for first in along_rows.tolist():
        ring, corner = [], first
        while left[corner]:
            other = horizontal[corner]
            ring += [corner, other]
            left[corner] = left[other] = False
            corner = vertical[other]
        if ring:
            rings.append(np.stack([x[ring], y[ring]], axis=1))
    return rings


def _partners(order: NDArray[np.int64]) -> list[int]:
    """Return for each corner the one that it is joined to: in `order`, the first and the second, and so on."""
    partners = np.empty_like(order)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    listed: list[int] = partners.tolist()
    return listed


def _corners(parts: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return x and y of all corners, and their order along a column at points where two corners meet.

    Two corners meet where two pixels of parts touch by a point. If they are of two parts, each has a corner there. If
    they are of one part, each of the two pixels between them has, so that no ring touches itself.
    """
    above_left, above_right, below_left, below_right = parts[:-1, :-1], parts[:-1, 1:], parts[1:, :-1], parts[1:, 1:]
    count = np.sum([each > 0 for each in (above_left, above_right, below_left, below_right)], axis=0)
    falling = (count == 2) & (above_left > 0) & (below_right > 0)  # like \
    rising = (count == 2) & (above_right > 0) & (below_left > 0)  # like /
    one_part = np.where(falling, above_left == below_right, above_right == below_left)
    y, x = np.nonzero(count % 2)
    double_y, double_x = np.nonzero(falling | rising)
    # the left edge's corner goes with the upper edge if the pixel above and left of the point has a corner of its own
    upper_first = (falling != one_part)[double_y, double_x]
    twin = np.concatenate([np.zeros(len(x)), ~upper_first, upper_first]).astype(np.int64)
    return np.concatenate([x, double_x, double_x]) + 1, np.concatenate([y, double_y, double_y]) + 1, twin
