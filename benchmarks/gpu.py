"""What the stages take on a GPU, in time and memory: `python -m benchmarks.gpu [--backbones micro litemedsam vit_b]`.

A call of each stage as config.yaml has it: embed four tiles, train on 16 objects, refine 64 boxes. Random weights and
tiles as large as the network's input, wall time after the queue has run empty; memory is what torch's allocator has
reserved at most. Without a GPU it measures the processor, and says nothing of memory.
"""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
from segment_anything.modeling import Sam

from benchmarks.limit import PRECISIONS
from benchmarks.memory import PROPOSED
from benchmarks.report import interleaved, machine, table, write_section
from benchmarks.train import recipe_of, step
from pipeline_lib.inference.predictor import Boxes, Predictor
from pipeline_lib.model.backbones import build
from pipeline_lib.model.box_model import box_model
from pipeline_lib.model.embeddings import encode_tiles
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.device import Precision, device
from pipeline_lib.training.sampling import Batch
from pipeline_lib.training.trainer import Trainer

TILES, OBJECTS, BOXES = 4, 16, 64
NAMES = ["micro", "litemedsam", "vit_b", "vit_l", "vit_h"]


def draw_boxes(count: int, side: int) -> Boxes:
    """Boxes (N, 4) with sides of a sixteenth to a quarter of the tile's, all within."""
    rng = np.random.default_rng(0)
    sides = rng.uniform(side / 16, side / 4, (count, 2))
    corners = rng.uniform(0, side - sides)
    boxes: Boxes = np.concatenate([corners, corners + sides], axis=1).astype(np.float32)
    return boxes


def embed(sam: Sam, precision: Precision) -> Callable[[], object]:
    """The encoder on some tiles."""
    tile = torch.zeros(sam.image_encoder.img_size, sam.image_encoder.img_size, dtype=torch.uint8)
    return partial(encode_tiles, sam, [tile] * TILES, precision)


def train(sam: Sam, precision: Precision) -> Callable[[], object]:
    """A step on some objects, which are their boxes."""
    side = sam.image_encoder.img_size
    config, frame, boxes = recipe_of(OBJECTS, precision), Frame((side, side), side), draw_boxes(OBJECTS, side)
    run = Trainer(box_model(sam, PROPOSED).to(device()), PROPOSED, config, Path("unused"), "")
    batch = Batch(embedding(sam), boxes, boxes, frame.pixels(torch.from_numpy(boxes)).to(device()))
    return partial(step, run, frame, batch, config)


def refine(sam: Sam, precision: Precision) -> Callable[[], object]:
    """Boxes to masks, which are copied to the processor."""
    side = sam.image_encoder.img_size
    model = box_model(sam, PROPOSED).to(device()).eval()
    predictor = Predictor(model, Frame((side, side), side), precision)
    views = predictor.views([embedding(sam)], [(side, side)]) * BOXES
    return partial(predictor.predict, views, draw_boxes(BOXES, side))


def embedding(sam: Sam) -> torch.Tensor:
    """Of a tile, noise."""
    return torch.randn(1, 256, *sam.prompt_encoder.image_embedding_size, device=device())


def cost(way: Callable[[], object], rounds: int) -> list[str]:
    """Milliseconds of a call, and the GB that it needs with what is there already."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    wall = interleaved({"": way}, rounds)[""].wall
    memory = f"{torch.cuda.max_memory_reserved() / 1e9:.1f}" if torch.cuda.is_available() else "–"
    return [f"{1000 * wall:.1f}", memory]


def main() -> None:
    """Measure, and write the README's section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--backbones", nargs="+", default=NAMES, choices=NAMES)
    arguments = parser.parse_args()
    stages = {f"embed, {TILES} tiles": embed, f"train, {OBJECTS} objects": train, f"refine, {BOXES} boxes": refine}
    rows = []
    for backbone in arguments.backbones:
        with torch.device(device()):
            sam = build(backbone)
        for (name, stage), precision in product(stages.items(), PRECISIONS):
            rows.append([f"`{backbone}`", name, precision, *cost(stage(sam, precision), arguments.rounds)])
    columns = ["backbone", "a call of", "precision", "wall ms", "GB reserved"]
    write_section("gpu", f"{machine()}; medians of {arguments.rounds} calls.\n\n{table(columns, rows)}")


if __name__ == "__main__":
    main()
