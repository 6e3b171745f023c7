"""Stage train: one model of a data set, from cached embeddings only."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import Deviation, read_boxes, read_objects
from pipeline_lib.data.dataset import Store
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.box_model import ModelConfig, load_untrained, save_model
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.device import choose_precision, device
from pipeline_lib.runtime.hashing import file_digest, key_of
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.training.config import TrainConfig
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
    model_config: dict[str, Any],
    settings: dict[str, Any],
    deviation: dict[str, Any],
    levels: list[int],
    seed: int,
    code: str = "",
) -> None:
    """Train one model and write the weights of its best epoch (`save_model`) and its curve, a row for each epoch.

    The best epoch, `kept` in the curve, is that of the highest mean IoU over `levels` on the validation split; epoch 0,
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
    loosening, made = Deviation(**deviation), ModelConfig.of(model_config)
    precision = choose_precision(settings["precision"])
    train_config = TrainConfig.of(settings | {"precision": precision}, model_config["mix"], loosening, seed)

    held_out = read_objects(boxes, "validation", settings["validation_objects"])
    validation = Validation(source, held_out, tuple(levels), dataset, seed, loosening)

    torch.manual_seed(seed)  # for the token and the adapter, which alone start at random
    network = load_untrained(weights, made).to(device())
    training = {"dataset": dataset, "seed": seed, "precision": precision}
    training |= {"checkpoint": backbone.digest, "tile": list(tiles.tile_shape)}
    training |= {"model_config": model_config, "settings": settings, "deviation": deviation, "levels": levels}
    key = key_of(training, file_digest(boxes), source.embeddings.key, code)
    trainer = Trainer(network, made, train_config, Path(f"{model}.checkpoint"), key)
    decoder = Predictor(network, source.frame, precision, train_config.mask_extent)
    sets = [TrainingSet(source, table.query("split == 'train'"), 1.0)]
    fit(trainer, sets, train_config, partial(validation.miou, decoder, trainer.pause))

    save_model(network, model, backbone.name, made, training)
    with atomic(curve) as unfinished:
        rows = pd.DataFrame(trainer.curve)
        rows["kept"] = rows.index == rows["validation_miou"].idxmax()  # the first of equals
        rows.to_csv(unfinished, index=False, float_format="%.6f")
    trainer.checkpoint.unlink(missing_ok=True)  # where the same job ran twice
