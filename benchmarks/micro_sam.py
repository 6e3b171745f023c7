"""Follow objects with micro_sam, to compare: `python -m benchmarks.micro_sam IMAGES LABELS`.

Boxes and scores are those of `benchmarks.track`. The network is LiteMedSAM as released, because micro_sam cannot run a
model with an image adapter. micro_sam is not among the dependencies: `pip install micro-sam`.
"""

import argparse
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from segment_anything import SamPredictor

from benchmarks.measuring import machine, table
from benchmarks.networks import released_sam, to_openvino
from benchmarks.track import boxes_of
from pipeline_lib.data.readers import open_stack
from pipeline_lib.runtime.device import multiplies_bfloat16

TILES = {"tile_shape": (256, 256), "halo": (32, 32)}  # pixels


def released_predictor() -> SamPredictor:
    """Return LiteMedSAM as released, in the form that micro_sam expects."""
    sam = released_sam("litemedsam")
    sam.image_encoder = to_openvino(sam.image_encoder, "bfloat16" if multiplies_bfloat16() else "float32")
    predictor = SamPredictor(sam)
    # micro_sam notes these three beside its embeddings
    predictor.model_type, predictor.model_name, predictor._hash = "vit_t", "litemedsam", ""
    return predictor


def followed(images: NDArray[np.uint8], labels: NDArray[Any], boxes: pd.DataFrame) -> list[float]:
    """Return the 3-D IoU of each box's object with the masks of `segment_mask_in_volume`, whose prompts are boxes.

    The overlap at which an object ends, .5, is what micro_sam's window for volumes offers first.
    """
    util, slices, prompts = (
        import_module(f"micro_sam.{name}")
        for name in ("util", "multi_dimensional_segmentation", "prompt_based_segmentation")
    )
    predictor, ious = released_predictor(), []
    embeddings = util.precompute_image_embeddings(predictor, images, ndim=3, **TILES)
    for box in boxes.to_dict("records"):
        masks, z = np.zeros(labels.shape, np.uint8), box["slice"]
        corners = np.array([box[side] for side in ("y0", "x0", "y1", "x1")])
        masks[z] = prompts.segment_from_box(predictor, corners, image_embeddings=embeddings, i=z).squeeze()
        if masks[z].any():
            masks, _ = slices.segment_mask_in_volume(
                masks,
                predictor,
                embeddings,
                np.array([z]),
                stop_lower=False,
                stop_upper=False,
                iou_threshold=0.5,
                projection="box",
                box_extension=0.05,
            )
        true, found = labels == box["number"], masks > 0
        ious.append(float((true & found).sum() / (true | found).sum()))
    return ious


def main() -> None:
    """Print the mean 3-D IoU for each kind of box."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images")
    parser.add_argument("labels")
    parser.add_argument("--objects", type=int, default=1, help="use every Nth object", metavar="N")
    parser.add_argument("--least", type=int, default=2000, help="smallest object, voxels")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    images, labels = (open_stack(path).compute() for path in (arguments.images, arguments.labels))
    boxes = boxes_of(labels, arguments.least, seed=0)
    boxes = boxes[boxes["number"].isin(boxes["number"].drop_duplicates().iloc[:: arguments.objects])]
    means = boxes.assign(iou=followed(images, labels, boxes)).groupby("kind", sort=False)["iou"].mean()
    print(machine(1))
    print(table(["boxes", "micro_sam"], [[str(kind), f"{iou:.3f}"] for kind, iou in means.items()]))


if __name__ == "__main__":
    main()
