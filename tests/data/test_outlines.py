"""Outlines enclose exactly the mask, in polygons that other programs accept."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco

from pipeline_lib.data.outlines import one_ring, polygons


def drawn(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def as_shapely(parts):
    return shapely.MultiPolygon([(part.exterior, part.holes) for part in parts])


def test_the_corners_of_a_pixel_are_whole_numbers():
    (part,) = polygons(drawn("..", ".#"), x=10, y=20)
    assert part.exterior.tolist() == [[11, 21], [12, 21], [12, 22], [11, 22]]
    assert part.holes == []


def test_pixels_that_touch_by_a_point_are_parts_of_their_own():
    assert [part.exterior.min(axis=0).tolist() for part in polygons(drawn("#.", ".#"))] == [[0, 0], [1, 1]]
    assert [part.exterior.min(axis=0).tolist() for part in polygons(drawn(".#", "#."))] == [[1, 0], [0, 1]]


def test_holes_that_touch_by_a_point_are_holes_of_their_own():
    (part,) = polygons(drawn("####", "#.##", "##.#", "####"))
    assert len(part.holes) == 2


def test_an_exterior_goes_with_the_clock_and_a_hole_against_it():
    (part,) = polygons(drawn("###", "#.#", "###"))
    # y points up for shapely, so what goes with the clock as seen is counter-clockwise there
    assert shapely.LinearRing(part.exterior).is_ccw
    assert not shapely.LinearRing(part.holes[0]).is_ccw


def test_an_empty_mask_has_no_outline():
    assert polygons(np.zeros((3, 4), bool)) == []


MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.booleans())


@given(MASKS)
def test_outlines_are_valid_and_enclose_the_pixels_of_the_mask(mask):
    shape = as_shapely(polygons(mask))
    assert shapely.is_valid(shape)
    y, x = np.indices(mask.shape)
    np.testing.assert_array_equal(shapely.contains_xy(shape, x + 0.5, y + 0.5), mask)
    assert shape.area == mask.sum()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools, as in `from_rle`
@given(MASKS)
def test_one_ring_keeps_holes_and_parts(mask):
    rings = [ring for part in polygons(mask) for ring in (part.exterior, *part.holes)]
    if rings:
        filled = coco.decode(coco.frPyObjects([one_ring(rings).ravel().tolist()], *mask.shape))[:, :, 0]
        np.testing.assert_array_equal(filled.astype(bool), mask)
