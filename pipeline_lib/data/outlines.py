"""Trace the outlines of masks along the edges of their pixels, for formats with polygons.

Corners of polygons are XY, whole numbers: the pixel in row 0 and column 0 has the corners (0, 0) and (1, 1). A filled
polygon is exactly the mask. No library does this without drawbacks: contours of scikit-image and OpenCV run through
the centres of pixels or halfway between them. Shapes of rasterio run along the edges, but need GDAL.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline_lib.data.masks import Mask

Ring = NDArray[np.int64]  # (N, 2), corners XY; an edge joins the last one to the first


class Polygon(NamedTuple):
    """A 4-connected component of a mask. Its rings do not cross, but they can touch at corners."""

    exterior: Ring  # clockwise as seen, with y downwards
    holes: list[Ring]  # the other way round


def polygons(mask: Mask, x: int = 0, y: int = 0) -> list[Polygon]:
    """Return a polygon for each 4-connected component of a mask, in reading order.

    Args:
        mask: YX.
        x: Column of the first pixel of the mask in the image.
        y: Row of the first pixel of the mask in the image.
    """
    padded = np.pad(mask, 1)
    parts, _ = ndimage.label(padded)
    by_part: dict[int, Polygon] = {}
    for ring in _rings(parts):
        # The first corner in reading order. The pixel below and right of it is in the part, or else in a hole of it
        column, row = ring[0]
        corners = ring + np.array([x - 1, y - 1])
        if padded[row, column]:
            by_part[parts[row, column]] = Polygon(corners, [])
        else:
            by_part[parts[row - 1, column]].holes.append(corners[::-1])
    return list(by_part.values())


def one_ring(rings: list[Ring]) -> Ring:
    """Join rings into one that encloses the same area, for formats that have a single ring.

    Lines without width join the first corner of the first ring to the first corners of the others.
    """
    start = rings[0][:1]
    pieces = [rings[0]]
    for ring in rings[1:]:
        pieces += [start, ring, ring[:1]]
    return np.concatenate(pieces)


def _rings(parts: NDArray[np.int32]) -> list[Ring]:
    """Return the rings around numbered parts, in the order of their first corners.

    At a corner, one or three of four pixels belong to a part. A horizontal and a vertical edge end there. Along each
    row of corners, edges join the first and the second corner, the third and the fourth, and so on. The same holds
    along each column.

    Args:
        parts: YX, with a border of background.
    """
    # Join the corners in pairs, along rows and along columns
    x, y, twin = _corners(parts)
    along_rows = np.lexsort((x, y))
    along_columns = np.lexsort((twin, y, x))
    horizontal, vertical = _partners(along_rows), _partners(along_columns)
    # Follow horizontal and vertical edges in turn until a ring closes
    is_left, rings = [True] * len(x), []
    for first in along_rows.tolist():
        ring, corner = [], first
        while is_left[corner]:
            other = horizontal[corner]
            ring += [corner, other]
            is_left[corner] = is_left[other] = False
            corner = vertical[other]
        if ring:
            rings.append(np.stack([x[ring], y[ring]], axis=1))
    return rings


def _partners(order: NDArray[np.int64]) -> list[int]:
    """Return the partner of each corner: in `order`, the first and the second are partners, and so on."""
    partners = np.empty_like(order)
    partners[order[0::2]], partners[order[1::2]] = order[1::2], order[0::2]
    numbers: list[int] = partners.tolist()
    return numbers


def _corners(parts: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return x and y of all corners, and their order along a column if two corners lie at one point.

    Two corners lie at a point where two pixels touch only by this point. If the pixels belong to two parts, each pixel
    has a corner there. If they belong to one part, each of the two pixels between them has one, so that no ring touches
    itself.
    """
    above_left, above_right, below_left, below_right = parts[:-1, :-1], parts[:-1, 1:], parts[1:, :-1], parts[1:, 1:]
    count = np.sum([each > 0 for each in (above_left, above_right, below_left, below_right)], axis=0)
    falling = (count == 2) & (above_left > 0) & (below_right > 0)  # like \
    rising = (count == 2) & (above_right > 0) & (below_left > 0)  # like /
    one_part = np.where(falling, above_left == below_right, above_right == below_left)
    y, x = np.nonzero(count % 2)
    double_y, double_x = np.nonzero(falling | rising)
    # The corner of the left edge is also that of the upper edge if the pixel above and left of the point has a corner
    upper_first = (falling != one_part)[double_y, double_x]
    twin = np.concatenate([np.zeros(len(x)), ~upper_first, upper_first]).astype(np.int64)
    return np.concatenate([x, double_x, double_x]) + 1, np.concatenate([y, double_y, double_y]) + 1, twin
