"""Pretrain the `micro` backbone on generated slices only.

    python -m pipeline_lib.training.pretraining WEIGHTS.safetensors

A SAM decoder with random weights predicts only empty masks unless it first learns what a box means. Three things help:

- The pool of training images grows from two to all as the masks get better.
- The cross-entropy is averaged over a window around the box, where the membranes are that matter.
- An auxiliary head predicts membranes and mitochondria from the embedding.
"""

import argparse
import json
import logging
import math
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from safetensors.torch import save_file
from skimage.measure import label, regionprops
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from pipeline_lib.data.masks import iou as mask_iou
from pipeline_lib.data.synthetic import GeneratedSlice, Look, generate_slice
from pipeline_lib.inference.predictor import Predictor, forward
from pipeline_lib.model.box_model import box_model
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.micro import EMBEDDING_WIDTH, IMAGE_SIZE, STRIDE, build_micro
from pipeline_lib.model.upstream import Sam
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.device import Precision, autocast, choose_precision, device
from pipeline_lib.settings.model import ModelConfig
from pipeline_lib.training.losses import bce_dice_loss, soft_target

log = logging.getLogger(__name__)

SEED = 20_000  # slice i of the training pool is drawn from SEED + i
UNSEEN_SEED = 9_000_000  # and slice i of the held-out set from UNSEEN_SEED + i
SLICE_SIZE = 352  # larger than the network's input, so that crops differ
MINIMUM_AREA = 64  # pixels
IMAGES_PER_STEP, BOXES_PER_IMAGE = 4, 8
LEARNING_RATE, WARM_UP, WEIGHT_DECAY, CLIP = 5e-4, 100, 0.01, 1.0
AVERAGE_DECAY = 0.998  # of the exponential moving average of the weights; the average is saved
JITTER, JITTER_LIMIT = 0.1, 20.0  # share of the box's side, and pixels, as in SAM's training
POOL_START, POOL_GROWTH, POOL_IOU, POOL_PATIENCE = 2, 4, 0.55, 15
SAVE_EVERY = 200  # steps
FRAME = Frame((IMAGE_SIZE, IMAGE_SIZE), IMAGE_SIZE)
NO_TOKEN = ModelConfig(trains=(), token=None)


@dataclass(frozen=True)
class TrainingCrop:
    """A crop with some of its objects."""

    image: NDArray[np.float32]  # YX, grey 0–255
    tissue: NDArray[np.bool_]  # 2 YX: membranes, mitochondria
    masks: NDArray[np.bool_]  # N YX
    boxes: NDArray[np.float32]  # N 4, XYXY half-open, exact


def draw_slice(seed: int, size: int = SLICE_SIZE) -> GeneratedSlice:
    """Generate a slice. Each seed gives another specimen."""
    rng = np.random.default_rng(seed)
    return generate_slice(rng, (size, size), Look.draw(rng))


def objects_of(labels: NDArray[np.integer[Any]]) -> list[tuple[NDArray[np.bool_], tuple[int, int, int, int]]]:
    """Return masks and XYXY boxes of the connected components of a label image that have the minimum area."""
    components = label(labels, connectivity=1)
    objects = []
    for region in regionprops(components):
        if region.area >= MINIMUM_AREA:
            y0, x0, y1, x1 = region.bbox
            objects.append((components == region.label, (x0, y0, x1, y1)))
    return objects


def draw_example(rng: Generator, source: GeneratedSlice) -> TrainingCrop | None:
    """Draw a random crop, turned and mirrored, with up to BOXES_PER_IMAGE objects, at most two of them mitochondria.

    Return None if the crop has fewer than two objects.
    """
    y, x = rng.integers(0, np.array(source.image.shape) - IMAGE_SIZE + 1)
    turns, mirrored = rng.integers(4), rng.random() < 0.5

    def crop(field: NDArray[Any]) -> NDArray[Any]:
        turned = np.rot90(field[y : y + IMAGE_SIZE, x : x + IMAGE_SIZE], int(turns))
        return np.fliplr(turned) if mirrored else turned

    cells, mitochondria = crop(source.cells), crop(source.mitochondria)
    organelles, bodies = objects_of(mitochondria), objects_of(cells)
    objects = [organelles[i] for i in rng.permutation(len(organelles))[:2]]
    objects += [bodies[i] for i in rng.permutation(len(bodies))[: BOXES_PER_IMAGE - len(objects)]]
    if len(objects) < 2:
        return None
    masks, boxes = zip(*objects, strict=True)
    image = (crop(source.image).astype(np.float32) - 128) * rng.uniform(0.7, 1.3) + 128 + rng.uniform(-25, 25)
    return TrainingCrop(
        np.clip(image, 0, 255),
        np.stack([cells == 0, mitochondria > 0]),
        np.stack(masks),
        np.array(boxes, np.float32),
    )


def jitter(rng: Generator, boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Move each edge by a normal share of the box's side, as SAM's training did."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    shift = np.clip(rng.normal(0, JITTER, boxes.shape) * sides, -JITTER_LIMIT, JITTER_LIMIT)
    return np.clip(boxes + shift, 0, IMAGE_SIZE).astype(np.float32)


def encode_crops(sam: Sam, images: Iterable[NDArray[np.float32]]) -> Tensor:
    """Return the embeddings of grey images (YX), with gradients."""
    batch = torch.from_numpy(np.stack(list(images)))[:, None].expand(-1, 3, -1, -1)
    embedding: Tensor = sam.image_encoder(sam.preprocess(batch.to(device())))
    return embedding


def step_loss(
    sam: Sam, tissue_head: nn.Module, examples: list[TrainingCrop], rng: Generator, precision: Precision
) -> tuple[Tensor, float]:
    """Return the mean loss over the examples, and the mean IoU of their masks on the low-resolution grid.

    `precision` is only that of the decoder: on a CPU, the encoder's convolutions are faster in float32.
    """
    embeddings = encode_crops(sam, (example.image for example in examples))
    tissue = F.avg_pool2d(torch.from_numpy(np.stack([example.tissue for example in examples])).float(), STRIDE)
    losses = [len(examples) * F.binary_cross_entropy_with_logits(tissue_head(embeddings), tissue.to(device()))]
    ious, model = [], box_model(sam, NO_TOKEN)
    with autocast(precision):
        images = model.image_features(embeddings.split(1))
    for image, example in zip(images, examples, strict=True):
        with autocast(precision):
            boxes = jitter(rng, example.boxes)
            logits, predicted_iou = forward(model, FRAME, [image] * len(boxes), boxes)
        grid = logits.shape[-1]
        target = soft_target(torch.from_numpy(example.masks).to(device()), FRAME, grid)
        exact = torch.from_numpy(example.boxes).to(device()) * (grid / IMAGE_SIZE)
        loss, iou = bce_dice_loss(logits, predicted_iou, target, exact)
        losses.append(loss)
        ious.append(iou)
    return torch.stack(losses).sum() / len(examples), float(torch.cat(ious).mean())


class Curriculum:
    """Draws examples from a pool of images. More images become available each time the recent masks are good."""

    def __init__(self, pool: list[GeneratedSlice]) -> None:
        self.pool = pool
        self.available = POOL_START
        self.recent: deque[float] = deque(maxlen=POOL_PATIENCE)

    def draw(self, rng: Generator) -> list[TrainingCrop]:
        """Return the examples of one step."""
        examples: list[TrainingCrop] = []
        while len(examples) < IMAGES_PER_STEP:
            example = draw_example(rng, self.pool[rng.integers(min(self.available, len(self.pool)))])
            if example is not None:
                examples.append(example)
        return examples

    def record(self, iou: float) -> None:
        """Record the mean IoU of a step, and make more images available if recent masks are good."""
        self.recent.append(iou)
        if len(self.recent) == POOL_PATIENCE and np.mean(self.recent) > POOL_IOU and self.available < len(self.pool):
            self.available *= POOL_GROWTH
            self.recent.clear()


def rate(step: int, steps: int) -> float:
    """Return the factor of the learning rate: a linear warm-up, then a cosine down to 0.01."""
    return min(1, (step + 1) / WARM_UP) * (0.505 + 0.495 * math.cos(math.pi * step / steps))


def pretrain(pool: list[GeneratedSlice], steps: int, until: int, path: Path) -> Sam:
    """Train for `until` of `steps` steps, and return the network with the averaged weights.

    The weights are also written to `path` every SAVE_EVERY steps.
    """
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    sam, tissue_head = build_micro().to(device()), nn.Conv2d(EMBEDDING_WIDTH, 2, 1).to(device())
    average = AveragedModel(sam, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))
    parameters = [*sam.parameters(), *tissue_head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(rate, steps=steps))
    curriculum, precision = Curriculum(pool), choose_precision("auto")
    for step in tqdm(range(until), "pretrain", mininterval=20):
        loss, iou = step_loss(sam, tissue_head, curriculum.draw(rng), rng, precision)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        schedule.step()
        average.update_parameters(sam)
        curriculum.record(iou)
        if step % 50 == 0:
            log.info("step %d: images %d, loss %.3f, IoU %.3f", step, curriculum.available, loss.item(), iou)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == until:
            save_weights(average.module, path)
    return average.module


def save_weights(sam: Sam, path: Path) -> None:
    """Write the weights in half precision, which halves the file."""
    tensors = {name: tensor.half().contiguous() for name, tensor in sam.state_dict().items()}
    with atomic(path) as partial:
        save_file(tensors, partial, metadata={"format": "pt"})


@torch.no_grad()
def unseen_miou(sam: Sam, count: int) -> float:
    """Return the mean IoU over the objects of `count` held-out slices with exact boxes, at full resolution."""
    predictor = Predictor(box_model(sam, NO_TOKEN), FRAME, choose_precision("auto"))
    ious = []
    for seed in range(UNSEEN_SEED, UNSEEN_SEED + count):
        source = draw_slice(seed, IMAGE_SIZE)
        masks, boxes = zip(*objects_of(source.cells), *objects_of(source.mitochondria), strict=True)
        embedding = encode_crops(sam, [source.image.astype(np.float32)])
        views = predictor.views([embedding], [FRAME.tile_shape]) * len(boxes)
        predicted, _ = predictor.predict(views, np.array(boxes, np.float32))
        ious.append(mask_iou(np.stack(predicted), np.stack(masks)))
    return float(np.concatenate(ious).mean())


def main() -> None:
    """Generate the pool, train, write the weights, and print their mean IoU on held-out slices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, help="file to write")
    parser.add_argument("--steps", type=int, default=3600, help="number of steps of the learning rate's schedule")
    parser.add_argument("--until", type=int, default=None, help="stop after this many steps")
    parser.add_argument("--slices", type=int, default=2400, help="number of training slices to generate")
    parser.add_argument("--unseen", type=int, default=100, help="number of held-out slices to test on")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    started = time.monotonic()
    with ProcessPoolExecutor() as workers:
        seeds = range(SEED, SEED + arguments.slices)
        pool = list(tqdm(workers.map(draw_slice, seeds, chunksize=8), "generate", len(seeds), mininterval=20))
    until = arguments.until or arguments.steps
    sam = pretrain(pool, arguments.steps, until, arguments.weights)
    figures = {
        "steps": until,
        "slices": arguments.slices,
        "unseen_miou": round(unseen_miou(sam.half().float(), arguments.unseen), 4),  # half precision, as in the file
        "minutes": round((time.monotonic() - started) / 60, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
