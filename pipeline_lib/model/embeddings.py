"""Embeddings of tiles: the frozen encoder makes them once, and later stages read them from disk."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.dataset import Store, read_whole
from pipeline_lib.errors import StaleEmbeddingsError, intact
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.micro import MicroEncoder
from pipeline_lib.model.openvino_encoder import OpenVinoEncoder
from pipeline_lib.model.upstream import Sam
from pipeline_lib.runtime.device import Precision, autocast

RESIZING = "grey as three equal channels; uint8 resized as ResizeLongestSide.apply_image"
REMEDY = "delete the embeddings and run the stage embed again"


def to_network(tile: NDArray[np.uint8], frame: Frame) -> Tensor:
    """Scale a grey image (YX) by the factor of a full tile, (h, w) uint8 on the CPU."""
    height, width = (max(1, round(side * scale)) for side, scale in zip(tile.shape, frame.scale, strict=True))
    scaled = Image.fromarray(tile).resize((width, height), Image.Resampling.BILINEAR)  # as SAM's apply_image resizes
    return torch.from_numpy(np.array(scaled))


@torch.no_grad()
def encode_tiles(sam: Sam, scaled: Sequence[Tensor], precision: Precision) -> Tensor:
    """Return the embeddings (B, 256, g, g) float32, on the network's device, of tiles (h, w) from `to_network`.

    `SamPredictor.set_image` gives the same embeddings for an image with three equal channels.
    """
    batch = torch.stack([sam.preprocess(tile.to(sam.device).expand(3, -1, -1)) for tile in scaled])  # B 3 S S
    # Large encoders see one tile at a time: attention over a whole image takes a gigabyte.
    at_once = len(batch) if isinstance(sam.image_encoder, MicroEncoder) else 1
    with autocast(precision):
        return torch.cat([sam.image_encoder(part).float() for part in batch.split(at_once)])


def engine_of(sam: Sam) -> str:
    """Return the name of the library that runs the encoder."""
    return "openvino" if isinstance(sam.image_encoder, OpenVinoEncoder) else "torch"


def origin(
    store: Store, backbone: Backbone, precision: Precision, engine: str, dtype: str, tiles: Iterable[int]
) -> dict[str, Any]:
    """Return the inputs and settings that decide the embeddings of tiles, as values of JSON.

    If two origins are equal, so are their embeddings.
    """
    return {
        "backbone": backbone.digest,
        "preprocessing": f"{RESIZING}; {backbone.normalisation}",
        "tile": list(store.tile_shape),
        "precision": precision,
        "engine": engine,
        "dtype": dtype,
        "content": {str(tile): store.digests[tile] for tile in tiles},
    }


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of a store's tiles, which were checked to be of this backbone and of these tiles."""

    array: zarr.Array[Any]
    source: Store
    content: Mapping[str, str]  # digest of each tile that has an embedding, by number, as in `origin`
    precision: Precision  # of the encoder
    engine: str  # library that ran the encoder
    key: str  # digest of the inputs and settings that decide the embeddings

    @classmethod
    def open(cls, path: str | Path, store: str | Path, weights: str | Path) -> "Embeddings":
        """Open the embeddings that the stage embed wrote. No tile and no embedding is read yet.

        Args:
            path: Zarr array of the embeddings.
            store: store of the tiles.
            weights: manifest of the backbone.

        Raises:
            StaleEmbeddingsError: the embeddings were made with another backbone, other settings or other tiles.
        """
        with intact(path):
            array = zarr.open_array(path, mode="r")
            attributes: dict[str, Any] = dict(array.attrs)
        source = Store.open(store)
        # neither store nor backbone says which they should be
        precision, engine = (attributes.get(name, "unknown") for name in ("precision", "engine"))
        expected = origin(source, Backbone.read(weights), precision, engine, str(array.dtype), ())
        if differing := _differences(attributes, expected):
            raise StaleEmbeddingsError(f"{path}: made from other inputs: {differing}; {REMEDY}")
        if len(source) != array.shape[0]:
            raise StaleEmbeddingsError(
                f"{path}: made from {array.shape[0]} tiles, but {store} has {len(source)}; {REMEDY}"
            )
        key = hashlib.blake2b(json.dumps(attributes).encode(), digest_size=16).hexdigest()
        return cls(array, source, attributes["content"], precision, engine, key)

    def __getitem__(self, tile: int) -> Tensor:
        """Read the embedding of a tile, (1, 256, g, g) float32, to the CPU.

        Raises:
            StaleEmbeddingsError: the tile had no boxes when the embeddings were made, or has changed since.
            DataError: the embedding is missing or damaged.
        """
        embedded = self.content.get(str(tile))
        if embedded is None:
            raise StaleEmbeddingsError(f"{self.array.store_path}: tile {tile} has no embedding; {REMEDY}")
        if embedded != self.source.digests[tile]:
            raise StaleEmbeddingsError(f"{self.array.store_path}: tile {tile} has changed since; {REMEDY}")
        return torch.from_numpy(read_whole(self.array, (tile, 0, 0, 0), slice(tile, tile + 1))).float()


def _differences(attributes: dict[str, Any], expected: dict[str, Any]) -> str:
    """List the settings that differ. The content of the tiles is compared later, tile by tile."""
    return "; ".join(
        f"{name} was {attributes.get(name)!r} and is {value!r}"
        for name, value in expected.items()
        if name != "content" and attributes.get(name) != value
    )
