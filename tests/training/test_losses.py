"""Losses against numbers worked out by hand."""

import math

import pytest
import torch
from torchvision.ops import generalized_box_iou_loss

from pipeline_lib.model.frame import Frame
from pipeline_lib.training.losses import LOSSES, dice_loss, grid_iou, soft_box, soft_target, window_weights

UNSURE = math.log(2)  # cross-entropy of a probability of one half


@pytest.fixture
def square():
    """One object of 2 × 2 pixels on a grid of 4 × 4, and its box."""
    target = torch.zeros(1, 4, 4)
    target[0, 1:3, 1:3] = 1
    return target, torch.tensor([[1.0, 1.0, 3.0, 3.0]])


def test_share_is_the_mean_over_the_pixels_that_a_grid_cell_covers():
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 0, :3] = True
    assert soft_target(mask, Frame((4, 4), 8), 2).tolist() == [[[0.5, 0.25], [0, 0]]]


def test_share_of_a_wide_tile_leaves_the_padding_below_empty():
    mask = torch.ones(1, 2, 4, dtype=torch.bool)
    assert soft_target(mask, Frame((2, 4), 8), 2).tolist() == [[[1, 1], [0, 0]]]


def test_share_of_a_smaller_tile_at_the_edge_is_scaled_like_a_full_one():
    mask = torch.ones(1, 4, 2, dtype=torch.bool)
    assert soft_target(mask, Frame((4, 4), 8), 2).tolist() == [[[1, 0], [1, 0]]]


def test_window_is_the_box_grown_by_half_its_side_and_four_pixels():
    weight = window_weights(torch.tensor([[10.0, 12.0, 14.0, 20.0]]), 32)[0]
    inside = (weight == 1).nonzero()
    assert inside.min(0).values.tolist() == [4, 4]  # y from 12 - 4 - 4, x from 10 - 2 - 4
    assert inside.max(0).values.tolist() == [27, 19]
    assert weight.min().item() == pytest.approx(0.05)


def test_dice_of_an_undecided_mask_is_hand_computed(square):
    target, _ = square  # intersection 4 · ½, sizes 16 · ½ and 4, each smoothed by 1
    assert dice_loss(torch.zeros(1, 4, 4), target).item() == pytest.approx(1 - (2 * 2 + 1) / (8 + 4 + 1))


def test_iou_on_the_grid_counts_pixels_that_are_mostly_object(square):
    target, _ = square
    logits = torch.full((1, 4, 4), -1.0)
    logits[0, 1, :] = 1  # four pixels, two of them object
    assert grid_iou(logits, target * 0.6).item() == pytest.approx(2 / 6)
    assert grid_iou(logits, target * 0.5).item() == 0


def test_sam_loss_of_an_undecided_mask_is_hand_computed(square):
    target, boxes = square
    loss, iou = LOSSES["sam"](torch.zeros(1, 4, 4), torch.tensor([0.3]), target, boxes)
    focal = (4 * 0.25 + 12 * 0.75) / 16 * 0.5**2 * UNSURE
    assert iou.item() == 0
    assert loss.item() == pytest.approx(20 * focal + 8 / 13 + 0.3**2, rel=1e-6)


def test_bce_dice_loss_of_an_undecided_mask_is_hand_computed(square):
    target, boxes = square
    loss, _ = LOSSES["bce_dice"](torch.zeros(1, 4, 4), torch.tensor([0.3]), target, boxes)
    assert loss.item() == pytest.approx(2 * UNSURE + 8 / 13 + 0.3**2, rel=1e-6)


def test_bce_dice_hardly_sees_an_error_outside_the_window():
    target, boxes = torch.zeros(1, 64, 64), torch.tensor([[4.0, 4.0, 8.0, 8.0]])
    near, far = (torch.full((1, 64, 64), -9.0) for _ in range(2))
    near[0, 9, 9] = far[0, 60, 60] = 9.0
    losses = [LOSSES["bce_dice"](logits, torch.zeros(1), target, boxes)[0].item() for logits in (near, far)]
    weights = 14 * 14 + 0.05 * (64 * 64 - 14 * 14)  # the window spans -2 to 14, cut at 0
    assert losses[0] - losses[1] == pytest.approx(2 * 0.95 * 9 / weights, rel=1e-3)


def test_the_soft_box_of_a_certain_mask_is_its_box(square):
    target, boxes = square
    stretched = torch.cat([target, target.new_zeros(1, 4, 4)], dim=1)  # higher than wide
    stretched[0, 5, 2] = 1
    for mask, box in ((target, boxes), (stretched, torch.tensor([[1.0, 1.0, 3.0, 6.0]]))):
        torch.testing.assert_close(soft_box(torch.where(mask > 0, 9.0, -9.0)), box)


def test_the_soft_box_is_the_expected_one_over_independent_columns_and_rows():
    logits = torch.full((1, 3, 3), -50.0)
    logits[0, 1, 1], logits[0, 1, 2] = 50.0, math.log(3) / 4  # the last column is there with a probability of 3/4
    assert soft_box(logits)[0].tolist() == pytest.approx([1, 1, 2.75, 2])


def test_the_box_loss_pulls_a_stray_pixel_down_and_nothing_within_the_box(square):
    target, boxes = square
    logits = torch.where(target > 0, 9.0, -9.0)
    logits[0, 3, 3] = 0.1
    logits.requires_grad_()
    generalized_box_iou_loss(soft_box(logits), boxes).sum().backward()
    assert logits.grad[0, 3, 3] > 0.01
    assert logits.grad[0, 1:3, 1:3].abs().max() < 1e-6


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_mask_costs_nothing(square, name):
    target, boxes = square
    loss, iou = LOSSES[name](torch.where(target > 0, 30.0, -30.0), torch.tensor([1.0]), target, boxes)
    assert iou.item() == 1
    assert loss.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_mean_over_objects(square, name):
    target, boxes = square
    logits, predicted = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 0.5, 0.9])
    alone = [LOSSES[name](logits[i : i + 1], predicted[i : i + 1], target, boxes)[0] for i in range(3)]
    together, _ = LOSSES[name](logits, predicted, target.expand(3, -1, -1), boxes.expand(3, -1))
    torch.testing.assert_close(together, torch.stack(alone).mean())
