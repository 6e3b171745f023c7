"""Masks are small enough to count by hand: # is inside."""

import numpy as np
import pytest

from pipeline_lib.data.masks import bounding_box, from_rle, iou, largest_component, to_rle


def drawn(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


@pytest.mark.parametrize(
    ("mask", "truth", "expected"),
    [
        (drawn("##.", "##."), drawn(".##", ".##"), 2 / 6),  # overlapping by a column
        (drawn("##."), drawn("..#"), 0),  # touching
        (drawn("###", "###"), drawn("#..", "..."), 1 / 6),  # no background in the mask: false positives count
        (drawn("#..", "..."), drawn("###", "###"), 1 / 6),
        (drawn("..", ".#"), drawn("..", ".#"), 1),  # one pixel, in the corner
        (drawn("..", "#."), drawn("..", ".#"), 0),
        (drawn(".."), drawn("#."), 0),  # an empty mask misses everything
        (drawn(".."), drawn(".."), 1),  # by definition
    ],
)
def test_iou_is_hand_counted(mask, truth, expected):
    assert iou(mask, truth) == pytest.approx(expected)


def test_iou_of_stacks_is_that_of_each_pair():
    masks, truths = np.stack([drawn("##"), drawn("#.")]), np.stack([drawn("#."), drawn("#.")])
    assert iou(masks, truths).tolist() == [0.5, 1]


def test_iou_of_masks_at_several_levels_is_taken_against_the_same_truths():
    masks = np.array([[drawn("##"), drawn("#.")], [drawn(".."), drawn("##")]])  # levels, objects, Y, X
    truths = np.stack([drawn("#."), drawn("##")])
    assert iou(masks, truths).tolist() == [[0.5, 0.5], [0, 1]]


def test_rectangle_is_half_open_and_xyxy():
    assert bounding_box(drawn("....", ".##.", "..#.")).tolist() == [1, 1, 3, 3]


def test_rectangle_of_a_pixel_at_the_far_corner_ends_at_the_border():
    assert bounding_box(drawn("...", "..#")).tolist() == [2, 1, 3, 2]


def test_largest_component_does_not_cross_corners():
    mask = drawn("##..", "..##", "..#.")
    np.testing.assert_array_equal(largest_component(mask), drawn("....", "..##", "..#."))


def test_of_equal_components_the_first_in_reading_order_is_the_largest():
    np.testing.assert_array_equal(largest_component(drawn("#.#")), drawn("#.."))


@pytest.mark.parametrize("mask", [drawn("...", "..."), drawn("###", "###"), drawn("#.#", ".##")])
def test_run_lengths_give_the_mask_back(mask):
    np.testing.assert_array_equal(from_rle(to_rle(mask), mask.shape), mask)
