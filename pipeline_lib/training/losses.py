"""What training minimises, on SAM's low-resolution grid: masks against the share of object in each of its pixels.

A loss takes logits (N, g, g), the predicted IoU (N), the target (N, g, g) in [0, 1] and the exact boxes (N, 4), XYXY in
pixels of the grid. It returns its mean over the N objects and the IoU (N) that their masks reach on the grid.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from pipeline_lib.model.frame import Frame

FOCAL_WEIGHT = 20  # focal to dice, as Segment Anything was trained (Kirillov et al. 2023, appendix A)
ENTROPY_WEIGHT = 2  # cross-entropy to dice, in pretraining
SHARPNESS = 4  # of a mask's edge as the soft box sees it: a pixel with a logit of -3 counts 6e-6, not 5 %
WINDOW_MARGIN = 4  # pixels of the grid
WINDOW_FLOOR = 0.05  # weight outside the window: far false positives still cost

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def soft_target(masks: Tensor, frame: Frame, grid: int) -> Tensor:
    """The share of object in each pixel of the low-resolution grid, by averaging areas.

    Args:
        masks: (N, h, w) bool, objects of a tile that is full or, at the edge of a slice, smaller.
        frame: where a full tile lies in the network's input.
        grid: side of the low-resolution grid, pixels; it spans the network's input.

    Returns:
        (N, grid, grid) float32; 0 where the network's input is padded.
    """
    (tile_height, tile_width), (height, width) = frame.tile_shape, frame.grid_shape(grid)
    full = F.pad(masks.float(), (0, tile_width - masks.shape[2], 0, tile_height - masks.shape[1]))
    share = F.adaptive_avg_pool2d(full, (height, width))
    return F.pad(share, (0, grid - width, 0, grid - height))


def window_weights(boxes: Tensor, size: int) -> Tensor:
    """Weights (N, size, size): 1 within the box grown by half its side and a margin, a floor elsewhere."""
    sides = boxes[:, 2:] - boxes[:, :2]
    low, high = boxes[:, :2] - sides / 2 - WINDOW_MARGIN, boxes[:, 2:] + sides / 2 + WINDOW_MARGIN
    at = torch.arange(size, device=boxes.device) + 0.5
    inside = (at >= low[..., None]) & (at <= high[..., None])  # N 2 size
    return WINDOW_FLOOR + (1 - WINDOW_FLOOR) * (inside[:, 1, :, None] & inside[:, 0, None, :]).float()


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus the soft Dice coefficient of each mask (N), smoothed by one pixel as in DETR and SAM."""
    p = logits.sigmoid()
    return 1 - (2 * (p * target).sum((1, 2)) + 1) / (p.sum((1, 2)) + target.sum((1, 2)) + 1)


def grid_iou(logits: Tensor, target: Tensor) -> Tensor:
    """IoU (N) of the masks with the pixels that are mostly object; 0 where both are empty."""
    mask, truth = logits > 0, target > 0.5
    return (mask & truth).sum((1, 2)) / (mask | truth).sum((1, 2)).clamp(min=1)


def sam_loss(logits: Tensor, predicted_iou: Tensor, target: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """SAM's own: 20 · focal + dice, plus the squared error of the predicted IoU; the boxes play no part."""
    focal = sigmoid_focal_loss(logits, target).mean((1, 2))
    iou = grid_iou(logits, target)
    error = F.mse_loss(predicted_iou, iou, reduction="none")
    return (FOCAL_WEIGHT * focal + dice_loss(logits, target) + error).mean(), iou


def bce_dice_loss(logits: Tensor, predicted_iou: Tensor, target: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy over a window around the exact box, where membranes decide, + dice, plus the error as in SAM's."""
    weight = window_weights(boxes, logits.shape[-1])
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (entropy * weight).sum((1, 2)) / weight.sum((1, 2))
    iou = grid_iou(logits, target)
    error = F.mse_loss(predicted_iou, iou, reduction="none")
    return (ENTROPY_WEIGHT * entropy + dice_loss(logits, target) + error).mean(), iou


def soft_box(logits: Tensor) -> Tensor:
    """The expected bounding box (N, 4), XYXY in pixels of the grid, were columns and rows drawn on their own.

    A column is in the mask with the probability of its likeliest pixel, and likewise a row. The box reaches beyond x
    with the probability that any column from x on is in the mask; the sum of these over x is where the box is expected
    to end. Unlike the hard box of `logits > 0`, which it equals where the mask is certain, it has a gradient.
    """
    columns, rows = (SHARPNESS * logits.amax(axis) for axis in (1, 2))  # N g
    ends = [_reach(line) for line in (columns, rows)]
    starts = [line.shape[1] - _reach(line.flip(1)) for line in (columns, rows)]
    return torch.stack([*starts, *ends], dim=1)


def _reach(line: Tensor) -> Tensor:
    """Where the last pixel of a line of logits (N, g) is expected to end: the sum of 1 - Π (1 - p) over its tails."""
    absent = -F.softplus(line)  # log(1 - p)
    return -torch.expm1(absent.flip(1).cumsum(1)).sum(1)


def sam_box_loss(logits: Tensor, predicted_iou: Tensor, target: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """SAM's, plus one minus the generalised IoU (Rezatofighi et al. 2019) of the mask's soft box and the exact one.

    The paper names a loss on the predicted mask's box as future work: what strays from the mask inflates the next box.
    """
    loss, iou = sam_loss(logits, predicted_iou, target, boxes)
    return loss + generalized_box_iou_loss(soft_box(logits), boxes).mean(), iou


LOSSES: dict[str, Loss] = {"sam": sam_loss, "bce_dice": bce_dice_loss, "sam_box": sam_box_loss}
