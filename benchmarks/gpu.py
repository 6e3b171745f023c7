"""Measure time and memory of the stages' calls on a GPU: `python -m benchmarks.gpu`.

Each call has the size that config.yaml sets: `embed` encodes 4 tiles, `train` makes a step on 16 objects, and `refine`
predicts 64 boxes. Weights are random, and a tile is as large as the network's input unless `--side` says otherwise.
Memory is the most that torch's allocator reserves. On a machine without a GPU, the command measures the processor.
"""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product

import numpy as np
import torch
from segment_anything.modeling import Sam

from benchmarks.decode import Boxes
from benchmarks.measuring import interleaved, machine, table
from benchmarks.networks import CONFIG, PRECISIONS, random_sam
from benchmarks.train import descend, trainer_of, training_config
from pipeline_lib.config.rows import training_of
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.box_model import box_model
from pipeline_lib.model.embeddings import encode_tiles
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.device import Precision, device
from pipeline_lib.training.sampling import Batch
from pipeline_lib.training.trainer import step_loss

TILES, OBJECTS = 4, 16
NAMES = ["micro", "litemedsam", "vit_b", "vit_l", "vit_h"]


def drawn_boxes(count: int, side: int) -> Boxes:
    """Return boxes (N, 4) with sides of a sixteenth to a quarter of the tile's, all within the tile."""
    rng = np.random.default_rng(0)
    sides = rng.uniform(side / 16, side / 4, (count, 2))
    corners = rng.uniform(0, side - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def embedding(sam: Sam) -> torch.Tensor:
    """Return noise in the shape of a tile's embedding."""
    return torch.randn(1, 256, *sam.prompt_encoder.image_embedding_size, device=device())


def embed(sam: Sam, precision: Precision) -> Callable[[], object]:
    """Return a call of the encoder."""
    tile = torch.zeros(sam.image_encoder.img_size, sam.image_encoder.img_size, dtype=torch.uint8)
    return partial(encode_tiles, sam, [tile] * TILES, precision)


def train(sam: Sam, precision: Precision, side: int) -> Callable[[], object]:
    """Return a training step. The objects fill their boxes."""
    training, frame = training_config(OBJECTS, precision, "proposed"), Frame((side, side), sam.image_encoder.img_size)
    trainer, boxes = trainer_of(sam, training), drawn_boxes(OBJECTS, side)
    batch = Batch(embedding(sam), boxes, boxes, frame.pixels(torch.from_numpy(boxes)).to(device()))

    def step() -> None:
        descend(trainer, step_loss(trainer.model, frame, [batch], training, precision))

    return step


def refine(sam: Sam, precision: Precision, side: int, boxes: int) -> Callable[[], object]:
    """Return a prediction of boxes, whose masks are copied to the processor."""
    model = box_model(sam, training_of(CONFIG, "proposed").model).to(device()).eval()
    predictor = Predictor(model, Frame((side, side), sam.image_encoder.img_size), precision)
    views = predictor.views([embedding(sam)], [(side, side)]) * boxes
    return partial(predictor.predict, views, drawn_boxes(boxes, side))


def cost(call: Callable[[], object], rounds: int) -> list[str]:
    """Return the milliseconds of a call, and the GB reserved at its peak, the weights included."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    wall = interleaved({"call": call}, rounds)["call"].wall
    memory = f"{torch.cuda.max_memory_reserved() / 1e9:.1f}" if torch.cuda.is_available() else "–"
    return [f"{1000 * wall:.1f}", memory]


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--side", type=int, help="side of a tile in train and refine, pixels")
    parser.add_argument("--boxes", type=int, default=64, help="number of boxes in a call of refine")
    parser.add_argument("--rounds", type=int, default=7, help="number of measurements, of which the median is printed")
    arguments = parser.parse_args()
    rows = []
    for name, precision in product(arguments.backbones, PRECISIONS):
        sam = random_sam(name)
        side = arguments.side or sam.image_encoder.img_size
        calls = {
            f"embed, {TILES} tiles": embed(sam, precision),
            f"refine, {arguments.boxes} boxes": refine(sam, precision, side, arguments.boxes),
            f"train, {OBJECTS} objects": train(sam, precision, side),
        }
        rows += [[f"`{name}`", call, precision, *cost(calls[call], arguments.rounds)] for call in calls]
    columns = ["backbone", "a call of", "precision", "wall ms", "GB reserved"]
    print(machine(arguments.rounds), table(columns, rows), sep="\n\n")


if __name__ == "__main__":
    main()
