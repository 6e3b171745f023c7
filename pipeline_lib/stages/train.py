"""Stage train: train one model from cached embeddings."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import read_objects
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.model_header import ModelHeader, check_fits
from pipeline_lib.errors import DataError
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.box_model import load_untrained, save_model
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.device import choose_precision, device
from pipeline_lib.runtime.hashing import file_digest, files_digest, key_of
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.settings.boxes import MeasuredMix
from pipeline_lib.settings.training import TrainingConfig
from pipeline_lib.training.sampling import LabelledTiles, TrainingSet
from pipeline_lib.training.trainer import Trainer, fit
from pipeline_lib.training.validation import Validation, mean_miou


def train(
    *,
    stores: list[str],
    boxes: list[str],
    embeddings: list[str],
    weights: str,
    model: str,
    curve: str,
    dataset: str,
    training: TrainingConfig,
    seed: int,
    code: str = "",
    start: str | None = None,
) -> None:
    """Train one model, and write the weights of its best epoch (`save_model`) and a curve with a row for each epoch.

    The best epoch (`kept` in the curve) has the highest mean IoU over `validation_levels` on the validation split. It
    can be epoch 0, before training. Data sets have equal weight.

    A checkpoint is kept beside `model` until the end. It is written after each epoch, every `CHECKPOINT_SECONDS`, and
    on a request to stop (`StopRequest`). After such a request, the process exits with 128 plus the signal's number. An
    interrupted run with the same settings, data and `code` resumes from the checkpoint. On a CPU, its result is bitwise
    that of an uninterrupted run.

    Args:
        stores: `…/{dataset}.zarr` of the stage convert, for each data set that the model is trained on.
        boxes: `…/{dataset}.csv` of the stage boxes, for the same data sets.
        embeddings: `…/{dataset}.zarr` of the stage embed, for the same data sets.
        weights: manifest of the backbone.
        model: safetensors file to write.
        curve: CSV to write.
        dataset: name of the data set, or `JOINT` if there are several.
        training: all settings of the training except data and seed.
        seed: seed of all random numbers.
        code: digest of the code that runs; checkpoints of other code are ignored.
        start: file of the model to start from, if `training` names one.

    Raises:
        StaleEmbeddingsError: embeddings are not those of their store and the backbone.
        DataError: tiles of the data sets differ in size.
    """
    keep_freed_memory()

    # Open the data sets.
    backbone, settings = Backbone.read(weights), training.train
    precision, shares = choose_precision(settings.precision), training.trained_on or {}
    sets, validations = [], []
    for store, table, cache in zip(stores, boxes, embeddings, strict=True):
        tiles = Store.open(store)
        source = LabelledTiles(
            tiles, Embeddings.open(cache, store, weights), Frame(tiles.tile_shape, backbone.image_size)
        )
        objects = read_objects(table, "train", settings.training_objects)
        sets.append(TrainingSet(source, objects, shares.get(tiles.name, 1.0)))
        held_out = read_objects(table, "validation", settings.validation_objects)
        if len(held_out):
            levels, deviation = settings.validation_levels, training.deviation
            validations.append(Validation(source, held_out, levels, tiles.name, seed, deviation))
    frame = common_frame(sets)

    # Build the model. Only the token and the adapter start from random weights.
    torch.manual_seed(seed)
    if start:
        check_fits(start, backbone)
    network = load_untrained(weights, training.model, start).to(device())

    # Record everything that decides the training: for the model's header, and to identify the checkpoint.
    record = {"dataset": dataset, "seed": seed, "precision": precision, "checkpoint": backbone.digest}
    record |= {"tile": list(frame.tile_shape), "start": file_digest(start) if start else None, **training.plain()}
    if isinstance(training.mix, MeasuredMix):
        record["deviations"] = file_digest(training.mix.deviations)
    record["images"] = images_of(sets, start)
    key = key_of(record, files_digest(boxes), [each.source.embeddings.key for each in sets], code)

    # Train, and write the model and its curve.
    trainer = Trainer(network, training, seed, precision, Path(f"{model}.checkpoint"), key)
    predictor = Predictor(network, frame, precision, settings.mask_extent)
    fit(trainer, sets, partial(mean_miou, validations, predictor, trainer.pause))
    save_model(network, model, backbone.name, training.model, record)
    with atomic(curve) as unfinished:
        rows = pd.DataFrame(trainer.curve)
        rows["kept"] = rows.index == rows["validation_miou"].idxmax()  # the first one, if several are equal
        rows.to_csv(unfinished, index=False, float_format="%.6f")
    trainer.checkpoint.unlink(missing_ok=True)  # missing if the same job runs twice


def common_frame(sets: Sequence[TrainingSet]) -> Frame:
    """Return the frame of all data sets.

    Raises:
        DataError: their tiles differ in size.
    """
    frames = {each.source.frame: each.source.tiles.name for each in sets}
    if len(frames) > 1:
        sizes = "; ".join(f"{name}: {frame.tile_shape}" for frame, name in frames.items())
        raise DataError(
            f"data sets of one training need the same `tile`; found {sizes}; set `tile` of each to the same"
        )
    return next(iter(frames))


def images_of(sets: Sequence[TrainingSet], start: str | None) -> dict[str, list[str]] | None:
    """Return the digests of all images of a training, by split: those of its data sets and of the model at `start`.

    Return None if the model at `start` does not record its images.
    """
    earlier = ModelHeader.read(start).training.get("images") if start else {"train": [], "validation": []}
    if earlier is None:
        return None
    return {
        split: sorted({*earlier[split], *(image for each in sets for image in each.source.tiles.images_of(split))})
        for split in ("train", "validation")
    }
