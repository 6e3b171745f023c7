"""Stage embed: each image goes through the frozen encoder exactly once; what follows reads its embedding from disk."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from pipeline_lib import encoder
from pipeline_lib.ahead import one_ahead, one_behind
from pipeline_lib.atomic import atomic, replace, to_disk
from pipeline_lib.boxes import read_boxes
from pipeline_lib.device import Precision, autocast, choose_precision, clock, device
from pipeline_lib.errors import DataError, StaleEmbeddingsError
from pipeline_lib.journal import Journal, key_of
from pipeline_lib.malloc import keep_freed_memory
from pipeline_lib.sam import Backbone, Frame, load_backbone
from pipeline_lib.stock import Sam
from pipeline_lib.store import Store

PREPROCESSING = "grey as three equal channels; uint8 resized as ResizeLongestSide.apply_image; Sam.preprocess"


def embed(
    *,
    store: str,
    boxes: str,
    weights: str,
    embeddings: str,
    timing: str,
    precision: Literal["auto", "float32", "bfloat16"],
    dtype: str,
    batch: int,
) -> None:
    """Encode the images that have boxes.

    While a batch is encoded, the next one is read and the last one is written.

    Args:
        store: OME-Zarr store of images.
        boxes: table of their boxes.
        weights: manifest of the backbone.
        embeddings: Zarr v3 array to write, (images, 256, g, g), one chunk per image; those without boxes stay
            unwritten. Its attributes say what it was made from, see `origin`.
        timing: JSON to write, the number of images and the seconds of `clock` that the encoder takes for one: the
            median over the calls, as the first one of a process is many times slower. On a CPU, what is read and
            written beside it counts too.
        precision: of the encoder's matrix products; what `auto` came to is among the attributes.
        dtype: float32 or float16, as stored.
        batch: images that are encoded at a time.

    Finished batches are kept beside `embeddings` until the end, and an interrupted run goes on after the last of them.
    """
    keep_freed_memory()
    source, backbone = Store.open(store), Backbone.read(weights)
    sam, frame = load_backbone(weights).to(device()), Frame(source.tile, backbone.image_size)
    images = sorted({int(image) for image in read_boxes(boxes)["image"]})
    shape = (sam.prompt_encoder.embed_dim, *sam.prompt_encoder.image_embedding_size)
    batches = [images[start : start + batch] for start in range(0, len(images), batch)]
    chosen, unfinished = choose_precision(precision), Path(f"{embeddings}.unfinished")
    made_from = origin(source, backbone, chosen, dtype, images)
    with Journal(f"{embeddings}.journal", key_of(made_from, batch)) as journal:
        if not unfinished.exists():
            journal.clear()
        if len(journal) == 0:
            zarr.create_array(
                unfinished,
                shape=(len(source), *shape),
                chunks=(1, *shape),
                dtype=dtype,
                compressors=None,  # noise to a compressor, and read again in every epoch
                attributes=made_from,
                config={"write_empty_chunks": True},  # each image has its file
                overwrite=True,
            )
        array = zarr.open_array(unfinished, mode="r+")

        def read(some: list[int]) -> list[Tensor]:
            return [to_network(source.image(image), frame) for image in some]

        def write(some: list[int], encoded: Tensor, seconds: float) -> None:
            for image, embedding in zip(some, encoded.numpy(), strict=True):
                array[image] = embedding
                to_disk(chunk_of(array, unfinished, image))
            journal.add({"seconds_per_image": seconds / len(some)})

        left = batches[len(journal) :]
        progress = tqdm(left, "embed", len(batches), initial=len(journal), mininterval=10)
        with one_behind() as meanwhile:
            for some, scaled in zip(progress, one_ahead(read, left), strict=True):
                started = clock()
                encoded = encode(sam, scaled, chosen).cpu()
                meanwhile(write, some, encoded, clock() - started)
        with atomic(timing) as partial:
            typical = median(each["seconds_per_image"] for each in journal)
            partial.write_text(json.dumps({"images": len(images), "seconds_per_image": round(typical, 6)}) + "\n")
        missing = [image for image in images if not chunk_of(array, unfinished, image).exists()]
        if missing:  # two processes at the same job, where there are no locks
            raise DataError(f"{unfinished}: expected {len(images)} embeddings, {len(missing)} are missing; delete it")
        replace(unfinished, embeddings)
        journal.delete()


def chunk_of(array: zarr.Array[Any], folder: Path, image: int) -> Path:
    """The file of an image's embedding."""
    return folder / array.metadata.encode_chunk_key((image, 0, 0, 0))


def to_network(image: NDArray[np.uint8], frame: Frame) -> Tensor:
    """A grey image (YX) scaled like a full tile, (h, w) uint8 on the CPU, where a GPU can fetch it by itself."""
    height, width = (max(1, round(side * scale)) for side, scale in zip(image.shape, frame.scale, strict=True))
    scaled = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)  # as apply_image, by torchvision
    pixels = torch.from_numpy(np.array(scaled))
    return pixels.pin_memory() if torch.cuda.is_available() else pixels


@torch.no_grad()
def encode(sam: Sam, scaled: Sequence[Tensor], precision: Precision) -> Tensor:
    """Embeddings (B, 256, g, g) float32, on the network's device, of images (h, w) of `to_network`.

    They are those of `SamPredictor.set_image`, the grey as three equal channels.
    """
    there = [image.to(sam.device, non_blocking=True) for image in scaled]
    batch = torch.stack([sam.preprocess(image.expand(3, -1, -1)) for image in there])  # B 3 S S
    with autocast(precision):
        return encoder.encode(sam.image_encoder, batch)


def origin(store: Store, backbone: Backbone, precision: Precision, dtype: str, images: Iterable[int]) -> dict[str, Any]:
    """All that decides the embeddings of some images, as JSON: equal origins, equal embeddings."""
    return {
        "backbone": backbone.fingerprint,
        "preprocessing": PREPROCESSING,
        "tile": list(store.tile),
        "precision": precision,
        "dtype": dtype,
        "content": {str(image): _fingerprint(store.image(image)) for image in images},
    }


def _fingerprint(image: NDArray[np.uint8]) -> str:
    return hashlib.blake2b(repr(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Embeddings:
    """The embeddings of a store's images, known to be of this backbone and, once they are read, of these images."""

    array: zarr.Array[Any]
    source: Store
    content: Mapping[str, str]  # of the embedded images by number, as of `origin`
    precision: Precision  # of the encoder
    key: str  # changes with whatever decides the embeddings
    _compared: set[int] = field(default_factory=set, init=False)

    @classmethod
    def open(cls, path: str | Path, store: str | Path, weights: str | Path) -> "Embeddings":
        """Open what `embed` wrote for a store and a backbone's manifest; no image and no embedding is read yet.

        Raises:
            StaleEmbeddingsError: naming what the embeddings were made from that is no longer so.
        """
        array, source = zarr.open_array(path, mode="r"), Store.open(store)
        found: dict[str, Any] = dict(array.attrs)
        precision = found["precision"]  # nothing that is at hand says which it should be
        expected = origin(source, Backbone.read(weights), precision, str(array.dtype), ())
        if differing := _differences(found, expected):
            raise StaleEmbeddingsError(f"{path}: made from something else; {differing}")
        if len(source) != array.shape[0]:
            raise StaleEmbeddingsError(f"{path}: made from {array.shape[0]} images, but {store} has {len(source)}")
        key = hashlib.blake2b(json.dumps(found).encode(), digest_size=16).hexdigest()
        return cls(array, source, found["content"], precision, key)

    def __getitem__(self, image: int) -> Tensor:
        """The image's embedding, (1, 256, g, g) float32, on the CPU.

        The first time, the image itself is read too and compared with the one that was embedded: a job pays for the
        images that it uses, and only once.

        Raises:
            StaleEmbeddingsError: the image had no boxes when the embeddings were made, or has changed since.
        """
        if image not in self._compared:
            self._compare(image)
            self._compared.add(image)
        return torch.from_numpy(np.asarray(self.array[image : image + 1])).float()

    def _compare(self, image: int) -> None:
        embedded = self.content.get(str(image))
        if embedded is None:
            raise StaleEmbeddingsError(f"{self.array.store_path}: image {image} is not among the embedded ones")
        if embedded != _fingerprint(self.source.image(image)):
            raise StaleEmbeddingsError(f"{self.array.store_path}: image {image} has changed since it was embedded")


def _differences(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Each setting that differs; the images' content is none."""
    return "; ".join(
        f"{name} was {found.get(name)!r} and is {value!r}"
        for name, value in expected.items()
        if name != "content" and found.get(name) != value
    )
