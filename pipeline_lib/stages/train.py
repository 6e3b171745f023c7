"""Stage train: one model of a data set, from cached embeddings only."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pipeline_lib.data.boxes import Deviation, read_boxes
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.records import Backbone
from pipeline_lib.inference.predictor import Decoder
from pipeline_lib.model.box_model import Variant, load_untrained, save_model
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.device import choose_precision, device
from pipeline_lib.runtime.hashing import fingerprint, key_of
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.training.sampling import Source
from pipeline_lib.training.settings import Recipe
from pipeline_lib.training.trainer import Run, fit
from pipeline_lib.training.validation import Validation, evenly


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
