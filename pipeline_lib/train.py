"""The stage `train`: one model of a data set, from cached embeddings only.

A step takes some objects of some images, each with a box of its own looseness. Every draw comes from a generator seeded
with what it is for, so a run that was cut goes on from its last checkpoint as if nothing had happened.
"""

import logging
import math
import pickle
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW
from tqdm import tqdm

from pipeline_lib.ahead import one_ahead
from pipeline_lib.atomic import atomic
from pipeline_lib.boxes import Deviation, by_image, clip, deviate, deviated, read_boxes
from pipeline_lib.decode import Decoder, forward
from pipeline_lib.device import Precision, autocast, choose_precision, device
from pipeline_lib.embed import Embeddings
from pipeline_lib.journal import key_of
from pipeline_lib.losses import LOSSES, object_share
from pipeline_lib.malloc import keep_freed_memory
from pipeline_lib.masks import Mask, iou, rectangles
from pipeline_lib.sam import (
    Backbone,
    BoxModel,
    Frame,
    Variant,
    fingerprint,
    load_untrained,
    save_model,
)
from pipeline_lib.stop import StopRequest
from pipeline_lib.store import Store

log = logging.getLogger(__name__)

XYXY = ["x0", "y0", "x1", "y1"]
CHECKPOINT_SECONDS = 300  # between two checkpoints, but for those at an epoch's end and on a request to stop
MASKS = 64  # of a validation image that are held at once, each as large as a tile
ORDER, OBJECTS = 1, 2  # what a seed is for: NumPy takes [s, e] and [s, e, 0] for the same


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; config.yaml explains each entry."""

    loss: str
    epochs: int
    images_per_step: int
    objects_per_image: int
    learning_rate: float
    weight_decay: float
    warm_up: int  # steps
    clip: float
    passes: int  # predictions of a step that have a loss
    precision: Precision
    levels: tuple[int, ...]  # of deviation among the training boxes, percent
    shares: tuple[float, ...]  # of these levels
    law: Deviation
    seed: int

    @classmethod
    def of(cls, settings: dict[str, Any], mix: dict[str, Any], law: Deviation, seed: int) -> "Recipe":
        """The recipe of the config's section `train` with one of its mixes."""
        own = {field.name: settings[field.name] for field in fields(cls) if field.name in settings}
        return cls(levels=tuple(mix["levels"]), shares=tuple(mix["shares"]), law=law, seed=seed, **own)


@dataclass(frozen=True)
class Source:
    """Images by number: what of them is read from disk when it is needed."""

    tiles: Store
    embeddings: Embeddings
    frame: Frame

    def masks(self, image: int, rows: pd.DataFrame) -> Mask:
        """The objects (N, h, w) of an image that are in some rows of its table of boxes."""
        masks: Mask = self.tiles.objects(image) == rows["object"].to_numpy()[:, None, None]
        return masks


@dataclass(frozen=True)
class Batch:
    """Some objects of one image."""

    embedding: Tensor  # (1, 256, g, g)
    prompts: NDArray[np.float32]  # (N, 4), the loose boxes
    exact: NDArray[np.float32]  # (N, 4)
    masks: Tensor  # (N, h, w) bool


def draw_boxes(rng: Generator, exact: NDArray[np.float32], recipe: Recipe) -> NDArray[np.float32]:
    """Boxes (N, 4) of the recipe's looseness, not yet cut at the image's border."""
    shares = np.divide(recipe.shares, np.sum(recipe.shares))
    levels = rng.choice(recipe.levels, len(exact), p=shares)
    return deviate(exact, levels, rng.random((len(exact), 4)), recipe.law)


def draw_batch(source: Source, image: int, rows: pd.DataFrame, recipe: Recipe, epoch: int) -> Batch:
    """What an image contributes to an epoch: all of its objects, or a random choice of them."""
    rng = np.random.default_rng([recipe.seed, OBJECTS, epoch, image])
    chosen = rows.iloc[rng.permutation(len(rows))[: recipe.objects_per_image]]
    exact = chosen[XYXY].to_numpy(np.float32)
    prompts = clip(draw_boxes(rng, exact, recipe), source.tiles.shape(image))
    masks = torch.from_numpy(source.masks(image, chosen)).to(device())
    return Batch(source.embeddings[image].to(device()), prompts, exact, masks)


def step_loss(model: BoxModel, frame: Frame, batches: Sequence[Batch], recipe: Recipe) -> Tensor:
    """The recipe's loss of the model's masks, the mean over its passes; a mask's rectangle prompts the next pass."""
    grid = 4 * batches[0].embedding.shape[-1]  # SAM's decoder upscales twice by two
    target = torch.cat([object_share(batch.masks, frame.tile, grid) for batch in batches])
    exact = frame.to_network(np.concatenate([batch.exact for batch in batches])).to(target.device)
    prompts, losses = np.concatenate([batch.prompts for batch in batches]), []
    with autocast(recipe.precision):
        sides = model.image_sides(batch.embedding for batch in batches)
    images = [side for side, batch in zip(sides, batches, strict=True) for _ in batch.prompts]
    for number in range(1, recipe.passes + 1):
        with autocast(recipe.precision):
            logits, predicted_iou = forward(model, frame, images, prompts)
        losses.append(LOSSES[recipe.loss](logits, predicted_iou, target, exact * (grid / frame.image_size))[0])
        if number < recipe.passes:
            prompts = next_prompts(frame, logits.detach(), batches, prompts)
    return torch.stack(losses).mean()


def next_prompts(
    frame: Frame, logits: Tensor, batches: Sequence[Batch], prompts: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The rectangles (N, 4) around the masks of some batches, or the prompt that gave no mask."""
    shapes = [batch.masks.shape[1:] for batch in batches for _ in batch.masks]
    tiles = frame.mask(logits).cpu().numpy()
    return rectangles([tile[:h, :w] for tile, (h, w) in zip(tiles, shapes, strict=True)], prompts)


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Cosine from the peak at step 0 to nothing after the last of `steps`, under a linear warm-up."""
    warmth = min(1.0, (step + 1) / max(1, recipe.warm_up))
    return recipe.learning_rate * warmth * (1 + math.cos(math.pi * step / steps)) / 2


class Run:
    """All that training changes, which is what a checkpoint holds.

    `key` stands for everything that decides how a run goes; a checkpoint with another key is of another run.
    """

    def __init__(self, model: BoxModel, variant: Variant, recipe: Recipe, checkpoint: Path, key: str) -> None:
        self.model = model
        self.trained = model.set_trainable(variant)
        self.optimizer = AdamW(self.trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
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
        with atomic(self.checkpoint) as unfinished:
            own = {"key": self.key, "curve": self.curve, "losses": self.losses, "best": self.best}
            torch.save({**own, **state}, unfinished)
        self.saved = time.monotonic()

    def pause(self) -> None:
        """Save if the last checkpoint is long ago, or if the process was asked to stop, which it then does.

        Called where the run is whole: between two steps, and between two images of the validation.
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
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            log.warning("%s cannot be read and is ignored: %s", self.checkpoint, error)
            return
        if state["key"] != self.key:
            log.warning("%s is of other settings or data and is ignored", self.checkpoint)
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.curve, self.losses, self.best = state["curve"], state["losses"], state["best"]
        log.info("resumed after epoch %d and %d steps", len(self.curve) - 1, len(self.losses))


def train_epoch(run: Run, source: Source, table: pd.DataFrame, recipe: Recipe, epoch: int) -> float:
    """Each image of the training split, `table`, in random order, some in a step; the mean loss of the steps.

    Steps that the run has already made in this epoch are left out.
    """
    images = list(by_image(table))
    order = np.random.default_rng([recipe.seed, ORDER, epoch]).permutation(len(images))
    steps = [order[start : start + recipe.images_per_step] for start in range(0, len(order), recipe.images_per_step)]
    done = len(run.losses)

    def draw(step: NDArray[np.int64]) -> list[Batch]:
        return [draw_batch(source, image, rows, recipe, epoch) for image, rows in (images[index] for index in step)]

    drawn = one_ahead(draw, steps[done:])
    progress = tqdm(drawn, f"epoch {epoch} of {recipe.epochs}", len(steps), initial=done, mininterval=10)
    for step, batches in enumerate(progress, (epoch - 1) * len(steps) + done):
        run.optimizer.param_groups[0]["lr"] = learning_rate(step, recipe.epochs * len(steps), recipe)
        loss = step_loss(run.model, source.frame, batches, recipe)
        run.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(run.trained, recipe.clip)
        run.optimizer.step()
        run.losses.append(loss.item())
        run.pause()
    return float(np.mean(run.losses))


def fit(run: Run, source: Source, table: pd.DataFrame, recipe: Recipe, validate: Callable[[], float]) -> None:
    """Train epoch by epoch from where the run stands, then give the model the weights of its best epoch."""
    run.resume()
    with run.stop:
        for epoch in range(len(run.curve), recipe.epochs + 1):
            loss = train_epoch(run, source, table, recipe, epoch) if epoch else math.nan
            run.record(epoch, loss, validate())
            run.save()
    run.model.load_state_dict(run.best)


def evenly(table: pd.DataFrame, count: int) -> pd.DataFrame:
    """At most `count` rows, evenly spaced."""
    return table.iloc[np.linspace(0, len(table) - 1, min(count, len(table))).round().astype(int)]


@dataclass(frozen=True)
class Validation:
    """The held-out objects, with the same boxes in every epoch and for every model."""

    source: Source
    table: pd.DataFrame
    levels: tuple[int, ...]  # of deviation, percent
    dataset: str
    seed: int
    law: Deviation

    def miou(self, decoder: Decoder, pause: Callable[[], None]) -> float:
        """Mean IoU over objects and levels, at the images' own resolution; `pause` is called after each image."""
        ious = []
        for image, rows in by_image(self.table):
            ious.append(self.ious(decoder, image, rows))
            pause()
        return float(np.concatenate(ious, axis=1).mean())

    def ious(self, decoder: Decoder, image: int, rows: pd.DataFrame) -> NDArray[np.float64]:
        """The IoU of each of an image's objects at each level, (L, N)."""
        shape, truths = self.source.tiles.shape(image), self.source.masks(image, rows)
        prompts = [deviated(rows, level, self.dataset, self.seed, self.law, shape) for level in self.levels]
        boxes, owners = np.concatenate(prompts), np.tile(np.arange(len(rows)), len(self.levels))
        (view,) = decoder.views([self.source.embeddings[image]], [shape])
        ious = []
        for start in range(0, len(boxes), MASKS):
            part = slice(start, start + MASKS)
            masks, _ = decoder.predict([view] * len(boxes[part]), boxes[part])
            ious.append(iou(np.stack(masks), truths[owners[part]]))
        return np.concatenate(ious).reshape(len(self.levels), len(rows))


def train(
    *,
    store: str,
    boxes: str,
    embeddings: str,
    weights: str,
    model: str,
    curve: str,
    dataset: str,
    variant: dict[str, Any],
    settings: dict[str, Any],
    deviation: dict[str, Any],
    levels: list[int],
    seed: int,
) -> None:
    """Train one variant and write the weights of its best epoch (`save_model`) and its curve, one row for each epoch.

    The best epoch is that of the highest mean IoU over `levels` on the validation split; epoch 0, before training, is
    one of them. A checkpoint is kept beside `model` until the end: it is written after each epoch, every
    `CHECKPOINT_SECONDS`, and on a request to stop (`StopRequest`), after which the process exits with 128 plus the
    signal's number. An interrupted run of the same settings and data goes on from it: on a CPU the outcome is bitwise
    that of an uninterrupted one.

    Raises:
        StaleEmbeddingsError: the embeddings are not those of this store and backbone.
    """
    keep_freed_memory()
    tiles, backbone, table = Store.open(store), Backbone.read(weights), read_boxes(boxes)
    source = Source(tiles, Embeddings.open(embeddings, store, weights), Frame(tiles.tile, backbone.image_size))
    law, made = Deviation(**deviation), Variant.of(variant)
    precision = choose_precision(settings["precision"])
    recipe = Recipe.of(settings | {"precision": precision}, variant["mix"], law, seed)

    held_out = evenly(table.query("split == 'validation'"), settings["validation_objects"])
    validation = Validation(source, held_out, tuple(levels), dataset, seed, law)

    torch.manual_seed(seed)  # for the token, the only part that starts at random
    network = load_untrained(weights, made).to(device())
    training = {"dataset": dataset, "seed": seed, "precision": precision}
    training |= {"variant": variant, "settings": settings, "deviation": deviation, "levels": levels}
    key = key_of(training, fingerprint(boxes), source.embeddings.key)
    run = Run(network, made, recipe, Path(f"{model}.checkpoint"), key)
    decoder = Decoder(network, source.frame, recipe.precision)
    fit(run, source, table.query("split == 'train'"), recipe, partial(validation.miou, decoder, run.pause))

    save_model(network, model, backbone.name, made, training)
    with atomic(curve) as unfinished:
        pd.DataFrame(run.curve).to_csv(unfinished, index=False, float_format="%.6f")
    run.checkpoint.unlink(missing_ok=True)  # where the same job ran twice
