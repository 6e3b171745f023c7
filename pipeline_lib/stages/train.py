"""Stage train: one model of a data set, from cached embeddings only."""

from functools import partial
from pathlib import Path

import pandas as pd
import torch

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import read_boxes, read_objects
from pipeline_lib.data.dataset import Store
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.box_model import load_untrained, save_model
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.device import choose_precision, device
from pipeline_lib.runtime.hashing import file_digest, key_of
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.settings.training import TrainingConfig
from pipeline_lib.training.sampling import LabelledTiles, TrainingSet
from pipeline_lib.training.trainer import Trainer, fit
from pipeline_lib.training.validation import Validation


def train(
    *,
    store: str,
    boxes: str,
    embeddings: str,
    weights: str,
    model: str,
    curve: str,
    dataset: str,
    training: TrainingConfig,
    seed: int,
    code: str = "",
) -> None:
    """Train one model and write the weights of its best epoch (`save_model`) and its curve, a row for each epoch.

    The best epoch, `kept` in the curve, is that of the highest mean IoU over
    `validation_levels` on the validation split; epoch 0,
    before training, is one of them. A checkpoint is kept beside `model` until the end: it is written after each epoch,
    every `CHECKPOINT_SECONDS`, and on a request to stop (`StopRequest`), after which the process exits with 128 plus
    the signal's number. An interrupted run of the same settings, data and `code` (a digest) goes on from it: on a CPU
    the outcome is bitwise that of an uninterrupted one.

    Raises:
        StaleEmbeddingsError: the embeddings are not those of this store and backbone.
    """
    keep_freed_memory()
    tiles, backbone, table = Store.open(store), Backbone.read(weights), read_boxes(boxes)
    source = LabelledTiles(
        tiles, Embeddings.open(embeddings, store, weights), Frame(tiles.tile_shape, backbone.image_size)
    )
    settings, precision = training.train, choose_precision(training.train.precision)

    held_out = read_objects(boxes, "validation", settings.validation_objects)
    validation = Validation(source, held_out, settings.validation_levels, dataset, seed, training.deviation)

    torch.manual_seed(seed)  # for the token and the adapter, which alone start at random
    network = load_untrained(weights, training.model).to(device())
    record = {"dataset": dataset, "seed": seed, "precision": precision}
    record |= {"checkpoint": backbone.digest, "tile": list(tiles.tile_shape), **training.plain()}
    key = key_of(record, file_digest(boxes), source.embeddings.key, code)
    trainer = Trainer(network, training, seed, precision, Path(f"{model}.checkpoint"), key)
    decoder = Predictor(network, source.frame, precision, settings.mask_extent)
    sets = [TrainingSet(source, table.query("split == 'train'"), 1.0)]
    fit(trainer, sets, partial(validation.miou, decoder, trainer.pause))

    save_model(network, model, backbone.name, training.model, record)
    with atomic(curve) as unfinished:
        rows = pd.DataFrame(trainer.curve)
        rows["kept"] = rows.index == rows["validation_miou"].idxmax()  # the first of equals
        rows.to_csv(unfinished, index=False, float_format="%.6f")
    trainer.checkpoint.unlink(missing_ok=True)  # where the same job ran twice
