"""Stage refine: deviated boxes to masks, and masks to new boxes until the masks stop changing."""

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
    """Write every prediction for every object of a split at one level of deviation (`TILES`), and how long they took.

    Objects are iterated so many at a time as `refine.objects_per_batch` says, tile after tile. Those that are
    finished are kept in a journal beside `iterations` until the end, and an interrupted run of the same `code`, a
    digest, goes on after the last.

    Raises:
        StaleEmbeddingsError: the embeddings are not those of this store and backbone.
        WeightsError: `model` is not a model of the stage train.
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
    decoder = Predictor(load_model(model).to(device()), frame, precision, refine.mask_extent)
    inference = Inference(decoder, refine)
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
        if len(journal) != len(chunks):  # two processes at the same job, where there are no locks
            raise DataError(f"{journal.path}: expected {len(chunks)} pieces, found {len(journal)}; delete it")
        write_predictions(journal, iterations, timing, record, TILES)
