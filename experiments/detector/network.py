"""The detector: Faster R-CNN with a small backbone, which a CPU trains from scratch.

This is torchvision's Faster R-CNN (Ren et al., 2015). Batches are small, so the backbone (ResNet-18) normalises groups
of channels, not batches (Wu and He, 2018). The feature pyramid has 96 channels, not 256.
"""

from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN

SIDES = (16, 32, 64, 128, 256)  # of the anchors, one for each level of the pyramid, pixels
CHANNELS = 96
MOST = 300  # boxes of a slice


def detector() -> FasterRCNN:
    """Return an untrained detector of one class. Images are (1, h, w) from 0 to 1, in their own resolution."""
    body = resnet18(weights=None, norm_layer=lambda channels: nn.GroupNorm(16, channels))
    body.conv1 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    levels = {f"layer{number}": str(number) for number in range(1, 5)}
    backbone = BackboneWithFPN(body, levels, [64, 128, 256, 512], CHANNELS)
    return FasterRCNN(
        backbone,
        num_classes=2,
        image_mean=[0.5],
        image_std=[0.25],
        _skip_resize=True,
        rpn_anchor_generator=AnchorGenerator(tuple((side,) for side in SIDES), ((0.5, 1.0, 2.0),) * len(SIDES)),
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=500,
        box_batch_size_per_image=128,
        box_detections_per_img=MOST,
        box_nms_thresh=0.4,
    )


def load_detector(path: Path) -> FasterRCNN:
    """Return the detector of a file, ready to detect."""
    model = detector()
    state: OrderedDict[str, torch.Tensor] = torch.load(path, weights_only=True)
    model.load_state_dict(state)
    return model.eval()
