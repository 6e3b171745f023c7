"""The losses of the training, on SAM's low-resolution grid.

A loss takes logits (N, g, g), the predicted IoU (N), the target (N, g, g) and the exact boxes (N, 4), XYXY in pixels of
the grid. The target is the share of each pixel that the object covers. A loss returns its mean over the N objects, and
the IoU (N) of their masks on the grid.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from pipeline_lib.model.frame import Frame

FOCAL_WEIGHT = 20  # weight of the focal loss relative to dice, as in SAM (Kirillov et al. 2023, appendix A)
ENTROPY_WEIGHT = 2  # weight of the cross-entropy relative to dice, in pretraining
SHARPNESS = 4  # factor of logits in the soft box: a logit of -3 is then a probability of 6e-6, not 0.05
WINDOW_MARGIN = 4  # pixels of the grid
WINDOW_FLOOR = 0.05  # weight outside the window, so that distant false positives still have a cost

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def soft_target(masks: Tensor, frame: Frame, grid: int) -> Tensor:
    """Return the share of each pixel of the low-resolution grid that an object covers.

    Args:
        masks: (N, h, w) bool, objects of a tile. At the edge of a slice, a tile can be smaller than a full one.
        frame: place of a full tile in the network's input.
        grid: side of the low-resolution grid, pixels. The grid spans the network's input.

    Returns:
        (N, grid, grid) float32 in [0, 1], and 0 where the network's input is padded.
    """
    (tile_height, tile_width), (height, width) = frame.tile_shape, frame.grid_shape(grid)
    full = F.pad(masks.float(), (0, tile_width - masks.shape[2], 0, tile_height - masks.shape[1]))
    share = F.adaptive_avg_pool2d(full, (height, width))
    return F.pad(share, (0, grid - width, 0, grid - height))


def window_weights(boxes: Tensor, size: int) -> Tensor:
    """Return weights (N, size, size) for boxes (N, 4) in pixels of the grid.

    They are 1 in a window that extends beyond the box by half its side and a margin, and `WINDOW_FLOOR` elsewhere.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    low, high = boxes[:, :2] - sides / 2 - WINDOW_MARGIN, boxes[:, 2:] + sides / 2 + WINDOW_MARGIN
    centres = torch.arange(size, device=boxes.device) + 0.5
    inside = (centres >= low[..., None]) & (centres <= high[..., None])  # N 2 size
    return WINDOW_FLOOR + (1 - WINDOW_FLOOR) * (inside[:, 1, :, None] & inside[:, 0, None, :]).float()


def dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return 1 minus the soft Dice coefficient of each mask (N), smoothed by one pixel as in DETR and SAM."""
    p = logits.sigmoid()
    return 1 - (2 * (p * target).sum((1, 2)) + 1) / (p.sum((1, 2)) + target.sum((1, 2)) + 1)


def grid_iou(logits: Tensor, target: Tensor) -> Tensor:
    """Return the IoU (N) of the masks with the pixels of which an object covers more than half; 0 if both are empty."""
    mask, truth = logits > 0, target > 0.5
    return (mask & truth).sum((1, 2)) / (mask | truth).sum((1, 2)).clamp(min=1)


def sam_loss(logits: Tensor, predicted_iou: Tensor, target: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return SAM's loss: 20 · focal + dice + squared error of the predicted IoU. It does not use the boxes."""
    focal = sigmoid_focal_loss(logits, target).mean((1, 2))
    iou = grid_iou(logits, target)
    error = F.mse_loss(predicted_iou, iou, reduction="none")
    return (FOCAL_WEIGHT * focal + dice_loss(logits, target) + error).mean(), iou


def bce_dice_loss(logits: Tensor, predicted_iou: Tensor, target: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of pretraining: 2 · cross-entropy + dice + squared error of the predicted IoU.

    The cross-entropy is averaged over a window around the exact box, where the membranes are that matter.
    """
    weight = window_weights(boxes, logits.shape[-1])
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    entropy = (entropy * weight).sum((1, 2)) / weight.sum((1, 2))
    iou = grid_iou(logits, target)
    error = F.mse_loss(predicted_iou, iou, reduction="none")
    return (ENTROPY_WEIGHT * entropy + dice_loss(logits, target) + error).mean(), iou


def soft_box(logits: Tensor) -> Tensor:
    """Return the expected bounding box (N, 4), XYXY in pixels of the grid, treating columns and rows as independent.

    The probability that a column is in the mask is that of its most likely pixel; likewise for rows. The box extends
    beyond x with the probability that any column from x on is in the mask. The sum of these probabilities over x is the
    expected end of the box. Where the mask is certain, this is the bounding box of `logits > 0`, but it has a gradient.
    """
    columns, rows = (SHARPNESS * logits.amax(axis) for axis in (1, 2))  # N g
    ends = [_expected_end(line) for line in (columns, rows)]
    starts = [line.shape[1] - _expected_end(line.flip(1)) for line in (columns, rows)]
    return torch.stack([*starts, *ends], dim=1)


def _expected_end(line: Tensor) -> Tensor:
    """Return the expected end (N) of the last mask pixel in lines of logits (N, g).

    This is the sum over x of 1 - Π (1 - p), where the product is over the pixels from x on.
    """
    absent = -F.softplus(line)  # log(1 - p)
    return -torch.expm1(absent.flip(1).cumsum(1)).sum(1)


def sam_box_loss(logits: Tensor, predicted_iou: Tensor, target: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return SAM's loss plus 1 minus the generalised IoU (Rezatofighi et al. 2019) of the soft box and the exact box.

    The paper suggests a loss on the box of the predicted mask as future work: stray pixels enlarge the next box.
    """
    loss, iou = sam_loss(logits, predicted_iou, target, boxes)
    return loss + generalized_box_iou_loss(soft_box(logits), boxes).mean(), iou


LOSSES: dict[str, Loss] = {"sam": sam_loss, "bce_dice": bce_dice_loss, "sam_box": sam_box_loss}
