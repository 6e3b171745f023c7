"""Stage refine: predict masks from deviated boxes, and iterate until the masks stop changing (K)."""

from tqdm import tqdm

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import deviated, read_objects
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.model_header import check_fits
from pipeline_lib.data.predictions import TILES, write_predictions
from pipeline_lib.errors import DataError
from pipeline_lib.inference.iterate import Inference
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.box_model import load_model
from pipeline_lib.model.embeddings import Embeddings
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.device import choose_precision, device
from pipeline_lib.runtime.hashing import file_digest, key_of
from pipeline_lib.runtime.journal import Journal
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.experiment import TestedObjects
from pipeline_lib.settings.inference import RefineConfig


def refine(
    *,
    store: str,
    boxes: str,
    embeddings: str,
    weights: str,
    model: str,
    iterations: str,
    timing: str,
    dataset: str,
    level: int,
    seed: int,
    tested: TestedObjects,
    deviation: Deviation,
    refine: RefineConfig,
    code: str = "",
) -> None:
    """Write all predictions for the tested objects of a data set at one level of deviation (`TILES`).

    `refine.objects_per_batch` objects are iterated together. Finished batches are kept in a journal beside
    `iterations` until the end. An interrupted run with the same inputs, settings and `code` resumes from it.

    Args:
        store: OME-Zarr store of the data set.
        boxes: CSV of the stage boxes.
        embeddings: Zarr array of the stage embed.
        weights: manifest of the backbone.
        model: model of the stage train.
        iterations: Parquet file to write.
        timing: JSON to write, with the seconds and counts of `Timing`.
        dataset: name of the data set, which seeds the deviations together with `level` and `seed`.
        level: deviation of the boxes, per cent.
        seed: seed of the deviations.
        tested: which objects are tested.
        deviation: how boxes deviate.
        refine: how masks are iterated, for this model.
        code: digest of the code that runs.

    Raises:
        StaleEmbeddingsError: the embeddings are not those of this store and backbone.
        WeightsError: `model` is not a model of the stage train, or a model of another backbone.
    """
    keep_freed_memory()
    backbone = Backbone.read(weights)
    check_fits(model, backbone)
    tiles = Store.open(store)
    table = read_objects(boxes, tested.split, tested.objects)
    cache = Embeddings.open(embeddings, store, weights)
    frame = Frame(tiles.tile_shape, backbone.image_size)
    precision = choose_precision(refine.precision)
    precisions = {"embed": cache.precision, "refine": precision}
    record = {"model": file_digest(model), "precision": precisions, "engine": cache.engine}
    predictor = Predictor(load_model(model).to(device()), frame, precision, refine.mask_extent)
    inference = Inference(predictor, refine)
    keys = table[["tile", "object"]]
    shapes = [tiles.shape(tile) for tile in table["tile"]]
    prompts = deviated(table, level, dataset, seed, deviation, shapes)
    chunks = [
        slice(start, start + refine.objects_per_batch) for start in range(0, len(table), refine.objects_per_batch)
    ]
    settings = [each.plain() for each in (tested, deviation, refine)]
    key = key_of(dataset, level, seed, settings, file_digest(boxes), record, cache.key, code)
    with Journal(f"{iterations}.unfinished", key) as journal:
        for chunk in tqdm(chunks[len(journal) :], "refine", len(chunks), initial=len(journal), mininterval=10):
            predictions = inference.run(keys.iloc[chunk], prompts[chunk], cache.__getitem__, tiles.shape)
            journal.add(predictions.piece())
        if len(journal) != len(chunks):  # two processes ran the same job on a file system without locks
            raise DataError(
                f"{journal.path}: expected {len(chunks)} pieces, found {len(journal)}; delete it and run again"
            )
        write_predictions(journal, iterations, timing, record, TILES)
