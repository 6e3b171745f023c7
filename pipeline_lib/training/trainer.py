"""Training of one model: steps, epochs, checkpoints.

A step takes some objects of some tiles, each with a box of its own looseness. Every draw comes from a generator seeded
with what it is for, so a run that was cut goes on from its last checkpoint as if nothing had happened.
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


CHECKPOINT_SECONDS = 300  # between two checkpoints, but for those at an epoch's end and on a request to stop


def step_loss(
    model: BoxModel, frame: Frame, batches: Sequence[Batch], config: TrainingConfig, precision: Precision
) -> Tensor:
    """Return the loss of the model's masks: the mean over the first prediction and the unrolled iterations.

    Iterations are prompted as in inference.
    """
    train = config.train
    grid = 4 * batches[0].embedding.shape[-1]  # SAM's decoder upscales twice by two
    target = torch.cat([soft_target(batch.masks, frame, grid) for batch in batches])
    exact = frame.to_network(np.concatenate([batch.exact for batch in batches])).to(target.device)
    prompts, losses = np.concatenate([batch.prompts for batch in batches]), []
    with autocast(precision):
        sides = model.image_features(batch.embedding for batch in batches)
    tiles = [side for side, batch in zip(sides, batches, strict=True) for _ in batch.prompts]
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
    """The next boxes (N, 4) of the masks of some batches, or the prompt that gave no mask."""
    shapes = [batch.masks.shape[1:] for batch in batches for _ in batch.masks]
    tiles = masks_of(frame, logits, prompts, config.train.mask_extent)
    masks = [tile[:h, :w] for tile, (h, w) in zip(tiles, shapes, strict=True)]
    return next_boxes(masks, config.largest_component, prompts)


def learning_rate(step: int, steps: int, train: TrainConfig) -> float:
    """Cosine from the peak at step 0 to nothing after the last of `steps`, under a linear warm-up."""
    warmth = min(1.0, (step + 1) / max(1, train.warmup_steps))
    return train.learning_rate * warmth * (1 + math.cos(math.pi * step / steps)) / 2


class Trainer:
    """All that training changes, which is what a checkpoint holds.

    `key` stands for everything that decides how a run goes; a checkpoint with another key is of another run.
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
        self.curve: list[dict[str, float]] = []  # a row for each finished epoch; 0 is before training
        self.losses: list[float] = []  # of the steps of the epoch at hand
        self.best: dict[str, Tensor] = {}
        self.checkpoint, self.key = checkpoint, key
        self.saved, self.stop = time.monotonic(), StopRequest()

    def record(self, epoch: int, train_loss: float, validation_miou: float) -> None:
        """Add an epoch to the curve, and keep the weights if no earlier epoch did as well on the validation split."""
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
        content = io.BytesIO()  # not to the file at once: on a full disk torch's errors are many, and name no file
        torch.save({**run, **state}, content)
        with atomic(self.checkpoint) as unfinished:
            unfinished.write_bytes(content.getbuffer())
        self.saved = time.monotonic()

    def pause(self) -> None:
        """Save if the last checkpoint is long ago, or if the process was asked to stop, which it then does.

        Called where the run is whole: between two steps, and between two tiles of the validation.
        """
        if self.stop.signal or time.monotonic() - self.saved > CHECKPOINT_SECONDS:
            self.save()
        if self.stop.signal:
            log.info("stopped in epoch %d after %d steps", len(self.curve), len(self.losses))
            self.stop.exit()

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one and it is of this very run."""
        if not self.checkpoint.exists():
            return
        try:
            # to the CPU: on a GPU each step would wait for the optimiser's counts of steps
            state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            if state["key"] != self.key:
                log.warning("%s is of other settings, data or code and is ignored", self.checkpoint)
                return
            parts = [state[name] for name in ("curve", "losses", "best", "model", "optimizer")]
        except Exception as error:  # whatever a damaged pickle comes to; a run must not hang on it for ever
            log.warning("%s cannot be read and is ignored: %r", self.checkpoint, error)
            return
        self.curve, self.losses, self.best, model, optimizer = parts
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        log.info("resumed after epoch %d and %d steps", len(self.curve) - 1, len(self.losses))


def train_epoch(trainer: Trainer, sets: Sequence[TrainingSet], epoch: int) -> float:
    """Train on the tiles of an epoch, `tiles_per_step` in a step, and return the mean loss of the steps.

    Steps that the run has already made in this epoch are left out.
    """
    config, train = trainer.config, trainer.config.train
    frame, draws = sets[0].source.frame, draw_epoch(sets, train, trainer.seed, epoch)
    steps = [draws[start : start + train.tiles_per_step] for start in range(0, len(draws), train.tiles_per_step)]
    done = len(trainer.losses)
    progress = tqdm(steps[done:], f"epoch {epoch} of {train.epochs}", len(steps), initial=done, mininterval=10)
    for step, chosen in enumerate(progress, (epoch - 1) * len(steps) + done):
        batches = [draw_batch(draw, config, trainer.seed, epoch) for draw in chosen]
        trainer.optimizer.param_groups[0]["lr"] = learning_rate(step, train.epochs * len(steps), train)
        loss = step_loss(trainer.model, frame, batches, config, trainer.precision)
        trainer.optimizer.zero_grad()
        loss.backward()
        norm = clip_grad_norm_(trainer.trained, train.grad_clip)
        value, steepness = torch.stack([loss.detach(), norm]).tolist()  # in one wait for a GPU
        if not math.isfinite(value) or not math.isfinite(steepness):
            raise TrainingError(
                f"{trainer.checkpoint}: the loss is {value:g} and its gradient {steepness:g} at step "
                f"{len(trainer.losses) + 1} of epoch {epoch}; lower `train.learning_rate`, now "
                f"{train.learning_rate:g}, or set `train.precision: float32`"
            )
        trainer.optimizer.step()
        trainer.losses.append(value)
        trainer.pause()
    return float(np.mean(trainer.losses))


def fit(trainer: Trainer, sets: Sequence[TrainingSet], validate: Callable[[], float]) -> None:
    """Train epoch by epoch from where the run stands, then give the model the weights of its best epoch.

    Args:
        trainer: what training changes.
        sets: data sets of one frame.
        validate: returns the figure by which the best epoch is chosen.
    """
    trainer.resume()
    with trainer.stop:
        for epoch in range(len(trainer.curve), trainer.config.train.epochs + 1):
            loss = train_epoch(trainer, sets, epoch) if epoch else math.nan
            trainer.record(epoch, loss, validate())
            trainer.save()
    trainer.model.load_state_dict(trainer.best)
