"""Stage train: one model of a data set, from cached embeddings only."""

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
    """Train one model and write the weights of its best epoch (`save_model`) and its curve, a row for each epoch.

    The best epoch, `kept` in the curve, has the highest mean IoU over `validation_levels` on the validation split;
    several data sets count alike. Epoch 0, before training, is one of the epochs.

    A checkpoint is kept beside `model` until the end. It is written after each epoch, every `CHECKPOINT_SECONDS`, and
    on a request to stop (`StopRequest`), after which the process exits with 128 plus the signal's number. An
    interrupted run of the same settings, data and `code` resumes from it: on a CPU the outcome is bitwise that of an
    uninterrupted run.

    Args:
        stores: `…/{dataset}.zarr` of stage convert, of each data set that is trained on.
        boxes: `…/{dataset}.csv` of stage boxes, of the same.
        embeddings: `…/{dataset}.zarr` of stage embed, of the same.
        weights: manifest of the backbone.
        model: safetensors to write.
        curve: CSV to write.
        dataset: name of the data set, or `JOINT` if there are several.
        training: all that decides the training but the data and the seed.
        seed: of all that is random.
        code: digest of the code that runs; the checkpoint of other code is not taken over.
        start: file of the model to start from, if `training` names one.

    Raises:
        StaleEmbeddingsError: embeddings are not those of their store and the backbone.
        DataError: tiles of the data sets differ in size.
    """
    keep_freed_memory()
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
            levels, law = settings.validation_levels, training.deviation
            validations.append(Validation(source, held_out, levels, tiles.name, seed, law))
    frame = common_frame(sets)

    torch.manual_seed(seed)  # for the token and the adapter, which alone start at random
    if start:
        check_fits(start, backbone)
    network = load_untrained(weights, training.model, start).to(device())
    record = {"dataset": dataset, "seed": seed, "precision": precision, "checkpoint": backbone.digest}
    record |= {"tile": list(frame.tile_shape), "start": file_digest(start) if start else None, **training.plain()}
    if isinstance(training.mix, MeasuredMix):
        record["deviations"] = file_digest(training.mix.deviations)
    record["images"] = images_of(sets, start)
    key = key_of(record, files_digest(boxes), [each.source.embeddings.key for each in sets], code)
    trainer = Trainer(network, training, seed, precision, Path(f"{model}.checkpoint"), key)
    decoder = Predictor(network, frame, precision, settings.mask_extent)
    fit(trainer, sets, partial(mean_miou, validations, decoder, trainer.pause))

    save_model(network, model, backbone.name, training.model, record)
    with atomic(curve) as unfinished:
        rows = pd.DataFrame(trainer.curve)
        rows["kept"] = rows.index == rows["validation_miou"].idxmax()  # the first of equals
        rows.to_csv(unfinished, index=False, float_format="%.6f")
    trainer.checkpoint.unlink(missing_ok=True)  # where the same job ran twice


def common_frame(sets: Sequence[TrainingSet]) -> Frame:
    """Return the frame of all data sets.

    Raises:
        DataError: their tiles differ in size.
    """
    frames = {each.source.frame: each.source.tiles.name for each in sets}
    if len(frames) > 1:
        sizes = "; ".join(f"{name}: {frame.tile_shape}" for frame, name in frames.items())
        raise DataError(f"data sets that are trained on together need one `tile`; their tiles are {sizes}")
    return next(iter(frames))


def images_of(sets: Sequence[TrainingSet], start: str | None) -> dict[str, list[str]] | None:
    """Return the digests of all images that a model has seen, by split: those of the data sets and of its start.

    Returns None if the model that it starts from does not say what it has seen.
    """
    before = ModelHeader.read(start).training.get("images") if start else {"train": [], "validation": []}
    if before is None:
        return None
    return {
        split: sorted({*before[split], *(image for each in sets for image in each.source.tiles.images_of(split))})
        for split in ("train", "validation")
    }
