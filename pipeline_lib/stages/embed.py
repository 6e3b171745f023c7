"""Stage embed: each tile goes through the frozen encoder exactly once; what follows reads its embedding from disk."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import zarr
from tqdm import tqdm
from zarr.codecs import Crc32cCodec

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.boxes import read_boxes
from pipeline_lib.data.dataset import EACH_CHUNK, Store, chunk_path, read_whole
from pipeline_lib.errors import DataError, intact
from pipeline_lib.model.backbones import load_to_encode
from pipeline_lib.model.embeddings import encode_tiles, engine_of, origin, to_network
from pipeline_lib.model.frame import Frame
from pipeline_lib.runtime.atomic import atomic, naming, replace, to_disk
from pipeline_lib.runtime.device import choose_precision, clock
from pipeline_lib.runtime.hashing import key_of
from pipeline_lib.runtime.journal import Journal
from pipeline_lib.runtime.malloc import keep_freed_memory
from pipeline_lib.settings.backbone import StoredType
from pipeline_lib.settings.base import PrecisionChoice

log = logging.getLogger(__name__)


def embed(
    *,
    store: str,
    boxes: str,
    weights: str,
    embeddings: str,
    timing: str,
    precision: PrecisionChoice,
    dtype: StoredType,
    batch: int,
    code: str = "",
) -> None:
    """Encode the tiles that have boxes.

    Args:
        store: OME-Zarr store of tiles.
        boxes: table of their boxes.
        weights: manifest of the backbone.
        embeddings: Zarr v3 array to write, (tiles, 256, g, g), one chunk per tile; those without boxes stay
            unwritten. Its attributes say what it was made from, see `origin`.
        timing: JSON to write, the number of tiles and the seconds of `clock` that the encoder takes for one: the
            median over the calls, as the first one of a process is many times slower.
        precision: of the encoder's matrix products; what `auto` came to is among the attributes.
        dtype: float32 or float16, as stored.
        batch: tiles that are encoded at a time.
        code: digest of the code that runs; what other code has left unfinished is not taken over.

    Finished batches are kept beside `embeddings` until the end, and an interrupted run goes on after the last of them.
    """
    keep_freed_memory()
    source, backbone = Store.open(store), Backbone.read(weights)
    chosen, frame = choose_precision(precision), Frame(source.tile_shape, backbone.image_size)
    sam = load_to_encode(weights, chosen)
    tiles = sorted({int(tile) for tile in read_boxes(boxes)["tile"]})
    shape = (sam.prompt_encoder.embed_dim, *sam.prompt_encoder.image_embedding_size)
    batches = [tiles[start : start + batch] for start in range(0, len(tiles), batch)]
    unfinished = Path(f"{embeddings}.unfinished")
    made_from = origin(source, backbone, chosen, engine_of(sam), dtype, tiles)
    with Journal(f"{embeddings}.journal", key_of(made_from, batch, code)) as journal:
        if not _is_whole(unfinished, [tile for each in batches[: len(journal)] for tile in each]):
            journal.clear()
        if len(journal) == 0:
            with naming(unfinished):
                zarr.create_array(
                    unfinished,
                    shape=(len(source), *shape),
                    chunks=(1, *shape),
                    dtype=dtype,
                    compressors=Crc32cCodec(),  # no zstd: floats hardly shrink, and reading takes longer
                    attributes=made_from | {"code": code},  # by which unfinished work on other embeddings is told
                    config=EACH_CHUNK,
                    overwrite=True,
                )
        array = zarr.open_array(unfinished, mode="r+")

        left = batches[len(journal) :]
        for group in tqdm(left, "embed", len(batches), initial=len(journal), mininterval=10):
            scaled = [to_network(source.pixels(tile), frame) for tile in group]
            started = clock()
            encoded = encode_tiles(sam, scaled, chosen).cpu()
            seconds = clock() - started
            for tile, embedding in zip(group, encoded.numpy(), strict=True):
                with naming(unfinished):
                    array[tile] = embedding
                to_disk(chunk_path(array, (tile, 0, 0, 0)))
            journal.add({"seconds_per_tile": seconds / len(group)})
        with atomic(timing) as partial:
            typical = median(each["seconds_per_tile"] for each in journal)
            partial.write_text(json.dumps({"tiles": len(tiles), "seconds_per_tile": round(typical, 6)}) + "\n")
        missing = [tile for tile in tiles if not chunk_path(array, (tile, 0, 0, 0)).exists()]
        if missing:  # two processes at the same job, where there are no locks
            raise DataError(f"{unfinished}: expected {len(tiles)} embeddings, {len(missing)} are missing; delete it")
        replace(unfinished, embeddings)
        journal.delete()


def _is_whole(unfinished: Path, noted: Sequence[int]) -> bool:
    """Whether the embeddings of the tiles that the journal notes are there as they were written."""
    try:
        with intact(unfinished):
            array = zarr.open_array(unfinished, mode="r")
        for tile in noted:
            read_whole(array, (tile, 0, 0, 0), tile)
    except DataError as error:
        if noted:
            log.warning("all tiles are encoded anew: %s", error)
        return False
    return True
