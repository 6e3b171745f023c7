"""Compare a training step with the plain loop on segment_anything: `python -m benchmarks.train`.

Both ways train the mask decoder of a backbone with random weights on the same objects of one generated tile. The plain
loop runs the frozen encoder in each step. Ours reads the embedding that the stage `embed` has written.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from segment_anything import SamPredictor
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from benchmarks.measuring import interleaved, machine, table
from benchmarks.networks import CONFIG, PRECISIONS, random_checkpoint
from benchmarks.small_experiment import stage_arguments, stage_call
from pipeline_lib.api import backbone_choice
from pipeline_lib.config.overlays import overlaid
from pipeline_lib.config.rows import training_of
from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import by_tile, read_boxes
from pipeline_lib.data.dataset import Store
from pipeline_lib.model.backbones import load_backbone
from pipeline_lib.model.box_model import box_model
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.upstream import Sam
from pipeline_lib.runtime.device import Precision, autocast, choose_precision, device
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.settings.training import TrainingConfig
from pipeline_lib.training.losses import LOSSES, soft_target
from pipeline_lib.training.sampling import Batch, Draw, LabelledTiles, TrainingSet, draw_batch
from pipeline_lib.training.trainer import Trainer, train_epoch

STAGES = ("raw", "convert", "boxes", "weights", "embed")


@dataclass(frozen=True)
class TrainingData:
    """The results of the stages before `train`, and the boxes to train on."""

    tiles: LabelledTiles
    boxes: pd.DataFrame
    weights: str  # manifest of the backbone

    @classmethod
    def of_experiment(cls, results: Path, dataset: str, boxes: pd.DataFrame) -> "TrainingData":
        """Open what a finished experiment has written for a data set."""
        stores = results / f"convert/{dataset}.zarr", results / f"embed/{dataset}.zarr"
        return cls.read(str(stores[0]), str(stores[1]), str(results / "weights/manifest.json"), boxes)

    @classmethod
    def read(cls, store: str, embeddings: str, weights: str, boxes: pd.DataFrame) -> "TrainingData":
        """Open the store and the embeddings of a data set."""
        tiles, side = Store.open(store), Backbone.read(weights).image_size
        source = LabelledTiles(tiles, Embeddings.open(embeddings, store, weights), Frame(tiles.tile_shape, side))
        return cls(source, boxes, weights)


def generated_data(folder: str, backbone: str, side: int) -> TrainingData:
    """Run the stages before `train` for one training tile, and return what they wrote."""
    choice = backbone_choice(backbone, checkpoint=random_checkpoint(backbone, folder))
    arguments = stage_arguments(Path(folder), 3, side, choice)
    for stage in STAGES:
        stage_call(stage, arguments[stage])()
    embed = arguments["embed"]
    boxes = read_boxes(embed["boxes"]).query("split == 'train'")
    return TrainingData.read(embed["store"], embed["embeddings"], embed["weights"], boxes)


def training_config(objects: int, precision: Precision, model: str = "sam") -> TrainingConfig:
    """Return how config.yaml trains a model, with another precision and number of objects in a step."""
    changes = {"train": {"precision": precision, "objects_per_tile": objects}}
    return overlaid(TrainingConfig, training_of(CONFIG, model), changes)


def trainer_of(sam: Sam, training: TrainingConfig) -> Trainer:
    """Return a trainer before its first step. It never writes a checkpoint."""
    network, precision = box_model(sam, training.model).to(device()), choose_precision(training.train.precision)
    trainer = Trainer(network, training, 0, precision, Path("unused"), "")
    trainer.saved = math.inf
    return trainer


def descend(trainer: Trainer, loss: Tensor) -> None:
    """Make the optimiser's step."""
    trainer.optimizer.zero_grad()
    loss.backward()
    clip_grad_norm_(trainer.trained, trainer.config.train.grad_clip)
    trainer.optimizer.step()


def our_epoch(data: TrainingData, training: TrainingConfig) -> Callable[[], object]:
    """Return a call that makes a step on each tile with our trainer."""
    trainer = trainer_of(load_backbone(data.weights), training)

    def epoch() -> None:
        trainer.losses.clear()
        train_epoch(trainer, [TrainingSet(data.tiles, data.boxes, 1.0)], epoch=1)

    return epoch


def plain_epoch(data: TrainingData, training: TrainingConfig) -> Callable[[], object]:
    """Return a call that makes the same steps as a user would write them on segment_anything."""
    sam, source = load_backbone(data.weights).to(device()), data.tiles
    trainer, predictor = trainer_of(sam, training), SamPredictor(sam)

    def step(tile: int, rows: pd.DataFrame) -> None:
        batch = draw_batch(Draw(source, tile, rows, tile), training, trainer.seed, epoch=1)
        with autocast(trainer.precision):
            predictor.set_image(np.stack([source.tiles.pixels(tile)] * 3, axis=-1))
            logits, predicted_iou = plain_decoder(predictor, source.frame, batch)
        target = soft_target(batch.masks, source.frame, logits.shape[-1])
        exact = source.frame.to_network(batch.exact) * (logits.shape[-1] / source.frame.image_size)
        loss, _ = LOSSES[training.train.loss](logits.float(), predicted_iou.float(), target, exact.to(target.device))
        descend(trainer, loss)

    def epoch() -> None:
        for tile, rows in by_tile(data.boxes):
            step(tile, rows)

    return epoch


def plain_decoder(predictor: SamPredictor, frame: Frame, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return logits (N, 4g, 4g) and predicted IoU (N) of the image that is set, with gradient."""
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


def measured(data: TrainingData, backbone: str, objects: int, rounds: int) -> str:
    """Return the table for some objects in a step."""
    if len(data.boxes) < objects:
        raise SystemExit(f"--objects {objects}: the generated tile has only {len(data.boxes)} objects; use fewer")
    trainings = {precision: training_config(objects, precision) for precision in PRECISIONS}
    ways = {f"plain loop, {precision}": plain_epoch(data, each) for precision, each in trainings.items()}
    ways |= {f"ours, {precision}": our_epoch(data, each) for precision, each in trainings.items()}
    seconds, reference = interleaved(ways, rounds), next(iter(ways))
    rows = [
        [way, f"{each.busy:.2f}", f"{each.wall:.2f}", f"× {seconds[reference].busy / each.busy:.1f}"]
        for way, each in seconds.items()
    ]
    side = data.tiles.tiles.tile_shape[0]
    title = f"**{objects} objects of one tile in a step, {side} × {side} pixels, {backbone}**"
    return f"{title}\n\n{table(['way', 'CPU s a step', 'wall s a step', 'speed'], rows)}"


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="vit_b")
    parser.add_argument("--side", type=int, default=1024, help="side of the tile, pixels")
    parser.add_argument("--objects", type=int, nargs="+", default=[4, 16], help="numbers of objects in a step")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    keep_freed_memory()  # as the stages do; it makes both ways faster
    print(machine(arguments.rounds))
    with TemporaryDirectory() as folder:
        data = generated_data(folder, arguments.backbone, arguments.side)
        for objects in arguments.objects:
            print(f"\n{measured(data, arguments.backbone, objects, arguments.rounds)}")


if __name__ == "__main__":
    main()
