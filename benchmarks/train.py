"""A step of training, ours and others': `python -m benchmarks.train [--backbone vit_b] [--objects 16] [--rounds 5]`.

One generated image as large as the backbone's input, some of its objects, random weights: loss, backward pass and
optimiser of the mask decoder alone. Ours reads the image's embedding from disk
(`pipeline_lib.training.trainer.train_epoch`, as the stage calls it); the others run the frozen encoder in each step.
The peer comes by `pip install .[peers]`.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from pipeline_lib.training.config import TrainConfig
from safetensors.torch import save_file
from segment_anything import SamPredictor
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from benchmarks.decode import random_sam
from benchmarks.peers import micro_sam_step
from benchmarks.report import interleaved, machine, table, write_section
from pipeline_lib.data.boxes import by_tile, read_boxes
from pipeline_lib.data.dataset import Slice, Store, create, record_digests
from pipeline_lib.model.backbones import load_backbone
from pipeline_lib.model.box_model import box_model
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.upstream import Sam
from pipeline_lib.runtime.device import Precision, autocast, device
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.model import ModelConfig
from pipeline_lib.stages.boxes import boxes
from pipeline_lib.stages.embed import embed
from pipeline_lib.stages.weights import weights
from pipeline_lib.training.losses import LOSSES, soft_target
from pipeline_lib.training.pretraining import UNSEEN_SEED, draw_slice
from pipeline_lib.training.sampling import Batch, LabelledTiles, draw_batch
from pipeline_lib.training.trainer import Trainer, step_loss, train_epoch

DECODER = ModelConfig(trains=("mask_decoder",), token=None)
SUB_ITERATIONS = (1, 8)  # of a step of micro_sam; the latter is its default


@dataclass(frozen=True)
class Stages:
    """What the stages before `train` have written."""

    source: LabelledTiles
    table: pd.DataFrame  # of boxes
    weights: str  # manifest of the backbone

    @classmethod
    def run(cls, folder: Path, backbone: str) -> "Stages":
        """One image, of the backbone's size and with random weights."""
        slots = {name: str(folder / name) for name in ("store", "boxes", "weights", "embeddings")}
        sam = random_sam(backbone)
        side = sam.image_encoder.img_size
        generated = draw_slice(UNSEEN_SEED, side)
        images, objects = create(
            slots["store"], (1, side, side), (side, side), [Slice("train", 0, 0)], (50.0, 4.0, 4.0)
        )
        images[0], objects[0] = generated.image, generated.cells.astype(np.uint32)
        record_digests(slots["store"])
        boxes(store=slots["store"], boxes=slots["boxes"])
        save_file({key: tensor.contiguous() for key, tensor in sam.state_dict().items()}, folder / "sam.safetensors")
        checkpoint = {"name": backbone, "checkpoint": str(folder / "sam.safetensors")}
        weights(manifest=slots["weights"], backbone=checkpoint, folder=str(folder))
        embed(**slots, timing=str(folder / "timing"), precision="float32", dtype="float32", batch=1)
        store = Store.open(slots["store"])
        embeddings = Embeddings.open(slots["embeddings"], slots["store"], slots["weights"])
        return cls(
            LabelledTiles(store, embeddings, Frame(store.tile_shape, side)),
            read_boxes(slots["boxes"]),
            slots["weights"],
        )


def recipe_of(objects: int, precision: Precision) -> TrainConfig:
    """config.yaml's, as far as a step's time depends on it."""
    law = Deviation(kind="scale", direction="both")
    return TrainConfig(
        loss="sam",
        epochs=1,
        tiles_per_epoch=None,
        tiles_per_step=1,
        objects_per_tile=objects,
        learning_rate=1e-4,
        weight_decay=0.01,
        warmup_steps=1,
        grad_clip=1.0,
        unrolled_iterations=0,
        window=None,
        largest_component=False,
        precision=precision,
        levels=(0, 10, 20),
        shares=(0.6, 0.2, 0.2),
        kinds=("scale",),
        deviation=law,
        seed=0,
    )


def run_of(sam: Sam, train_config: TrainConfig) -> Trainer:
    """A training of the mask decoder that has made no step yet, without a checkpoint."""
    run = Trainer(box_model(sam, DECODER), DECODER, train_config, Path("unused"), "")
    run.saved = math.inf  # so that none is ever due
    return run


def step(run: Trainer, frame: Frame, batch: Batch, train_config: TrainConfig) -> None:
    """A step of training on a batch that is there already."""
    run.optimizer.zero_grad()
    step_loss(run.model, frame, [batch], train_config).backward()
    clip_grad_norm_(run.trained, train_config.grad_clip)
    run.optimizer.step()


def ours(stages: Stages, train_config: TrainConfig) -> Callable[[], object]:
    """An epoch: a step for each image of the table."""
    run = run_of(load_backbone(stages.weights).to(device()), train_config)

    def epoch() -> None:
        run.losses.clear()
        train_epoch(run, stages.source, stages.table, train_config, epoch=1)

    return epoch


def plain(stages: Stages, train_config: TrainConfig) -> Callable[[], object]:
    """The loop as one writes it on segment_anything: encoder without gradient, its own decoder, the same objects.

    It too is an epoch: a step for each image of the table.
    """
    sam, source = load_backbone(stages.weights).to(device()), stages.source
    run = run_of(sam, train_config)
    predictor = SamPredictor(sam)

    def step(image: int, rows: pd.DataFrame) -> None:
        batch = draw_batch(source, image, rows, train_config, epoch=1)
        with autocast(train_config.precision):
            predictor.set_image(np.stack([source.tiles.pixels(image)] * 3, axis=-1))
            logits, predicted_iou = stock_decoder(predictor, source.frame, batch)
        target = soft_target(batch.masks, source.frame, logits.shape[-1])
        exact = source.frame.to_network(batch.exact) * (logits.shape[-1] / source.frame.image_size)
        loss, _ = LOSSES[train_config.loss](logits.float(), predicted_iou.float(), target, exact.to(target.device))
        run.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(run.trained, train_config.grad_clip)
        run.optimizer.step()

    def epoch() -> None:
        for image, rows in by_tile(stages.table):
            step(image, rows)

    return epoch


def stock_decoder(predictor: SamPredictor, frame: Frame, batch: Batch) -> tuple[Tensor, Tensor]:
    """Logits (N, g, g) and predicted IoU (N) of the image that is set, with gradient."""
    sam = predictor.model
    sparse, dense = sam.prompt_encoder(points=None, boxes=frame.to_network(batch.prompts).to(sam.device), masks=None)
    logits, predicted_iou = sam.mask_decoder(
        image_embeddings=predictor.features,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=False,
    )
    return logits[:, 0], predicted_iou[:, 0]


def ways_of(stages: Stages, objects: int, folder: Path) -> tuple[dict[str, Callable[[], object]], list[str]]:
    """Every way to make a step by name, the reference first; and a line if the peer is absent."""
    recipes = {precision: recipe_of(objects, precision) for precision in ("float32", "bfloat16")}
    ways = {f"plain loop, {name}": plain(stages, train_config) for name, train_config in recipes.items()}
    skipped = []
    pixels, labels = stages.source.tiles.pixels(0), stages.source.tiles.objects(0)
    try:
        for count in SUB_ITERATIONS:
            sam = load_backbone(stages.weights).to(device())
            name = f"`micro_sam` `SamTrainer`, bfloat16, {count} sub-iteration{'s' if count > 1 else ''}"
            ways[name] = micro_sam_step(sam, pixels, labels, objects, count, folder)
    except ImportError as error:
        skipped.append(f"`micro_sam` `SamTrainer`: skipped, {error}")
    ways |= {f"ours, {name}": ours(stages, train_config) for name, train_config in recipes.items()}
    return ways, skipped


def measure(backbone: str, objects: int, rounds: int) -> str:
    """The table, under its title."""
    with TemporaryDirectory() as name:
        stages = Stages.run(Path(name), backbone)
        if len(stages.table) < objects:
            raise SystemExit(f"expected a tile of {objects} objects, the generated one has {len(stages.table)}")
        ways, skipped = ways_of(stages, objects, Path(name))
        seconds = interleaved(ways, rounds)
    rates = {way: objects / each.busy for way, each in seconds.items()}
    reference = next(iter(rates.values()))
    rows = [
        [way, f"{seconds[way].busy:.2f}", f"{seconds[way].wall:.2f}", f"{rate:.2f}", f"× {rate / reference:.1f}"]
        for way, rate in rates.items()
    ]
    side = stages.source.frame.image_size
    title = f"**{objects} objects of one tile a step, {side} × {side} pixels, {backbone} with random weights**"
    columns = ["way", "CPU s a step", "wall s a step", "objects a CPU s", "speed"]
    return "\n\n".join([title, table(columns, rows), *skipped])


def main() -> None:
    """Measure, and write the README's section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="vit_b")
    parser.add_argument("--objects", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    keep_freed_memory()  # as the stages do; it serves all ways
    parts = [measure(given.backbone, objects, given.rounds) for objects in given.objects]
    write_section("train", "\n\n".join([f"{machine()}; medians of {given.rounds} rounds.", *parts]))


if __name__ == "__main__":
    main()
