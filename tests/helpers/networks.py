"""Networks for tests."""

import torch
from segment_anything.modeling import Sam

from pipeline_lib.model.backbones import build


def random_backbone(name: str) -> Sam:
    """A backbone whose zero-initialised weights are moved as well, so that each of them has a say."""
    torch.manual_seed(0)
    sam = build(name).requires_grad_(False)
    for parameter in sam.parameters():
        parameter += 0.02 * torch.randn_like(parameter)
    return sam
