"""Train one model: steps, epochs and checkpoints.

A step uses some objects of some tiles, and draws a loose box for each object. The seeds of all random numbers depend
only on seed, epoch and tile. So an interrupted run resumes from its last checkpoint with the same result.
"""

import io
import logging
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from tqdm import tqdm

from pipeline_lib.errors import TrainingError
from pipeline_lib.inference.next_box import next_boxes
from pipeline_lib.inference.predictor import forward, masks_of
from pipeline_lib.model.box_model import BoxModel
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.device import Precision, autocast
from pipeline_lib.runtime.interrupt import StopRequest
from pipeline_lib.settings.training import TrainConfig, TrainingConfig
from pipeline_lib.training.losses import LOSSES, soft_target
from pipeline_lib.training.sampling import Batch, TrainingSet, draw_batch, draw_epoch

log = logging.getLogger(__name__)


CHECKPOINT_SECONDS = 300  # between checkpoints, in addition to those after each epoch and on a request to stop


def step_loss(
    model: BoxModel, frame: Frame, batches: Sequence[Batch], config: TrainingConfig, precision: Precision
) -> Tensor:
    """Return the loss of the model's masks: the mean over the first prediction and the unrolled iterations.

    Iterations are prompted with the box of the previous mask, as in inference. No gradient flows through the box.
    """
    # Targets on the low-resolution grid.
    train = config.train
    grid = 4 * batches[0].embedding.shape[-1]  # SAM's decoder upscales twice by two
    target = torch.cat([soft_target(batch.masks, frame, grid) for batch in batches])
    exact = frame.to_network(np.concatenate([batch.exact for batch in batches])).to(target.device)
    prompts, losses = np.concatenate([batch.prompts for batch in batches]), []

    # What the boxes of a tile share.
    with autocast(precision):
        features = model.image_features(batch.embedding for batch in batches)
    tiles = [each for each, batch in zip(features, batches, strict=True) for _ in batch.prompts]

    # The first prediction and the unrolled iterations.
    for number in range(train.unrolled_iterations + 1):
        with autocast(precision):
            logits, predicted_iou = forward(model, frame, tiles, prompts, train.mask_extent)
        losses.append(LOSSES[train.loss](logits, predicted_iou, target, exact * (grid / frame.image_size))[0])
        if number < train.unrolled_iterations:
            prompts = next_prompts(frame, logits.detach(), batches, prompts, config)
    return torch.stack(losses).mean()


def next_prompts(
    frame: Frame, logits: Tensor, batches: Sequence[Batch], prompts: NDArray[np.float32], config: TrainingConfig
) -> NDArray[np.float32]:
    """Return the next boxes (N, 4) of the masks of some batches. An empty mask keeps its prompt."""
    shapes = [batch.masks.shape[1:] for batch in batches for _ in batch.masks]
    tiles = masks_of(frame, logits, prompts, config.train.mask_extent)
    masks = [tile[:h, :w] for tile, (h, w) in zip(tiles, shapes, strict=True)]
    return next_boxes(masks, config.largest_component, prompts)


def learning_rate(step: int, steps: int, train: TrainConfig) -> float:
    """Return the learning rate of a step: a cosine to 0 after the last of `steps`, times a linear warm-up."""
    warmup = min(1.0, (step + 1) / max(1, train.warmup_steps))
    return train.learning_rate * warmup * (1 + math.cos(math.pi * step / steps)) / 2


class Trainer:
    """The state of a training, which its checkpoint holds.

    `key` is a digest of all settings, data and code of the run. A checkpoint with another key is ignored.
    """

    def __init__(
        self,
        model: BoxModel,
        config: TrainingConfig,
        seed: int,
        precision: Precision,
        checkpoint: Path,
        key: str,
    ) -> None:
        self.model = model
        self.config, self.seed, self.precision = config, seed, precision
        self.trained = model.set_trainable(config.model)
        self.optimizer = AdamW(self.trained, lr=config.train.learning_rate, weight_decay=config.train.weight_decay)
        self.curve: list[dict[str, float]] = []  # a row for each finished epoch; epoch 0 is before training
        self.losses: list[float] = []  # of the steps of the current epoch
        self.best: dict[str, Tensor] = {}  # weights of the best epoch
        self.checkpoint, self.key = checkpoint, key
        self.saved, self.stop = time.monotonic(), StopRequest()

    def record(self, epoch: int, train_loss: float, validation_miou: float) -> None:
        """Add an epoch to the curve, and keep its weights if its validation mIoU is above all earlier ones."""
        if all(validation_miou > row["validation_miou"] for row in self.curve):
            self.best = {key: tensor.clone() for key, tensor in self.model.state_dict().items()}
        rate = self.optimizer.param_groups[0]["lr"] if epoch else 0.0
        row = {"epoch": epoch, "learning_rate": rate, "train_loss": train_loss, "validation_miou": validation_miou}
        self.curve.append(row)
        self.losses = []
        log.info("epoch %d: loss %.4f, validation mIoU %.4f", epoch, train_loss, validation_miou)

    def save(self) -> None:
        """Replace the checkpoint."""
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        run = {"key": self.key, "curve": self.curve, "losses": self.losses, "best": self.best}
        content = io.BytesIO()  # not directly to the file: on a full disk, torch raises various errors without its name
        torch.save({**run, **state}, content)
        with atomic(self.checkpoint) as unfinished:
            unfinished.write_bytes(content.getbuffer())
        self.saved = time.monotonic()

    def pause(self) -> None:
        """Save a checkpoint if the last one is old. If the process was asked to stop, save one and exit.

        Call this only when the state is consistent: between steps, and between tiles of the validation.
        """
        if self.stop.signal or time.monotonic() - self.saved > CHECKPOINT_SECONDS:
            self.save()
        if self.stop.signal:
            log.info("stopped in epoch %d after %d steps", len(self.curve), len(self.losses))
            self.stop.exit()

    def resume(self) -> None:
        """Load the checkpoint, if there is one of this run."""
        if not self.checkpoint.exists():
            return
        try:
            # To the CPU: on a GPU, each step would wait for the optimiser's step counts.
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            if state["key"] != self.key:
                log.warning("%s is of other settings, data or code and is ignored", self.checkpoint)
                return
            parts = [state[name] for name in ("curve", "losses", "best", "model", "optimizer")]
        except Exception as error:  # a damaged pickle can raise anything, and must not stop the run every time
            log.warning("%s cannot be read and is ignored: %r", self.checkpoint, error)
            return
        self.curve, self.losses, self.best, model, optimizer = parts
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        log.info("resumed after epoch %d and %d steps", len(self.curve) - 1, len(self.losses))


def train_epoch(trainer: Trainer, sets: Sequence[TrainingSet], epoch: int) -> float:
    """Train on the tiles of an epoch, `tiles_per_step` in a step, and return the mean loss of the steps.

    After a restart, steps that were finished before are skipped.

    Raises:
        TrainingError: the loss or its gradient is not finite.
    """
    config, train = trainer.config, trainer.config.train
    frame, draws = sets[0].source.frame, draw_epoch(sets, train, trainer.seed, epoch)
    steps = [draws[start : start + train.tiles_per_step] for start in range(0, len(draws), train.tiles_per_step)]
    done = len(trainer.losses)
    progress = tqdm(steps[done:], f"epoch {epoch} of {train.epochs}", len(steps), initial=done, mininterval=10)
    for step, tiles in enumerate(progress, (epoch - 1) * len(steps) + done):
        batches = [draw_batch(draw, config, trainer.seed, epoch) for draw in tiles]
        trainer.optimizer.param_groups[0]["lr"] = learning_rate(step, train.epochs * len(steps), train)
        loss = step_loss(trainer.model, frame, batches, config, trainer.precision)
        trainer.optimizer.zero_grad()
        loss.backward()
        norm = clip_grad_norm_(trainer.trained, train.grad_clip)
        value, gradient = torch.stack([loss.detach(), norm]).tolist()  # stacked, to wait for a GPU only once
        if not math.isfinite(value) or not math.isfinite(gradient):
            raise TrainingError(
                f"{trainer.checkpoint}: the loss is {value:g} and its gradient {gradient:g} at step "
                f"{len(trainer.losses) + 1} of epoch {epoch}; lower `train.learning_rate`, now "
                f"{train.learning_rate:g}, or set `train.precision: float32`"
            )
        trainer.optimizer.step()
        trainer.losses.append(value)
        trainer.pause()
    return float(np.mean(trainer.losses))


def fit(trainer: Trainer, sets: Sequence[TrainingSet], validate: Callable[[], float]) -> None:
    """Train from the last checkpoint to the end, then load the weights of the best epoch into the model.

    Args:
        trainer: state of the training.
        sets: data sets with tiles of equal size.
        validate: returns the validation mIoU, which chooses the best epoch.
    """
    trainer.resume()
    with trainer.stop:
        for epoch in range(len(trainer.curve), trainer.config.train.epochs + 1):
            loss = train_epoch(trainer, sets, epoch) if epoch else math.nan
            trainer.record(epoch, loss, validate())
            trainer.save()
    trainer.model.load_state_dict(trainer.best)
