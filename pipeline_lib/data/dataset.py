"""The data set as the stages see it: one OME-Zarr 0.5 store (Zarr v3) of grey slices, their objects and their split.

    0                  images, uint8 ZYX
    labels/objects/0   objects, uint32 ZYX: 0 is background, ids are unique within a tile and start anew in each

Both arrays have one resolution level. Their chunks are the tiles, which never overlap; a tile of a slice is what the
encoder sees and what has boxes, embedding and masks of its own. Slices can differ in size: the arrays are as large as
the largest, and beyond a smaller one there are no tiles. Metadata: https://ngff.openmicroscopy.org/0.5/
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from tqdm import tqdm
from zarr.codecs import Crc32cCodec, ZstdCodec

from pipeline_lib.data.ome_zarr import AXES, VERSION, multiscale
from pipeline_lib.errors import DataError, intact
from pipeline_lib.runtime.hashing import array_digest

CODECS = (ZstdCodec(level=0), Crc32cCodec())  # with a checksum, by which a damaged chunk is an error
EACH_CHUNK: Any = {"write_empty_chunks": True}  # a chunk that is missing is an error, see `read_whole`


def chunk_path(array: zarr.Array[Any], chunk: tuple[int, ...]) -> Path:
    """The file of a chunk, by number, of an array in a folder."""
    store: Any = array.store_path.store
    return Path(store.root) / array.path / array.metadata.encode_chunk_key(chunk)


def read_whole(array: zarr.Array[Any], chunk: tuple[int, ...], where: Any) -> NDArray[Any]:
    """A part of an array of ours, which lies within the chunk of that number.

    Raises:
        DataError: the chunk is missing, which Zarr would read as zeros, or damaged.
    """
    path = chunk_path(array, chunk)
    with intact(path):
        if not path.exists():
            raise DataError(f"{path}: this chunk is missing; delete the Zarr folder, and it is made again")
        return np.asarray(array[where])


def image_digest(pixels: NDArray[np.uint8]) -> str:
    """Return a digest of an image YX, by which it is known in other data sets; empty if all its pixels are alike."""
    return "" if (pixels == pixels[0, 0]).all() else array_digest(pixels)


@dataclass(frozen=True)
class Slice:
    """Where a slice of the store comes from."""

    split: str
    volume: int  # position in the data set's list of volumes
    index: int  # position in that volume
    size: tuple[int, int]  # (height, width) in the store, pixels


def create(
    path: str | Path, tile_shape: tuple[int, int], slices: Sequence[Slice], pixel_size: Sequence[float]
) -> tuple[zarr.Array[Any], zarr.Array[Any]]:
    """Lay out an empty store and return its arrays of images and objects.

    Args:
        path: a folder that does not exist yet.
        tile_shape: (height, width) in pixels; a tile is smaller where its slice ends.
        slices: one for each z.
        pixel_size: ZYX, nm.
    """
    shape = (len(slices), max(origin.size[0] for origin in slices), max(origin.size[1] for origin in slices))
    record = {"tile": list(tile_shape), "slices": [vars(origin) for origin in slices], "digests": [], "images": []}
    scene = zarr.create_group(
        path, zarr_format=3, attributes={"ome": multiscale("images", pixel_size), "loosebox": record}
    )
    labels = scene.create_group("labels", attributes={"ome": {"version": VERSION, "labels": ["objects"]}})
    label_image = multiscale("objects", pixel_size) | {"image-label": {"source": {"image": "../../"}}}
    objects = labels.create_group("objects", attributes={"ome": label_image})
    chunks = (1, *tile_shape)
    both: Any = {"shape": shape, "chunks": chunks, "dimension_names": AXES, "compressors": CODECS, "config": EACH_CHUNK}
    return scene.create_array("0", dtype=np.uint8, **both), objects.create_array("0", dtype=np.uint32, **both)


def record_digests(path: str | Path, images: Sequence[str]) -> None:
    """Write down digests of each tile of a complete store, so that a later stage need not read the tile, and of images.

    Args:
        path: of the store.
        images: a digest of each slice as it was before magnification, as `image_digest`.
    """
    store, scene = Store.open(path), zarr.open_group(path, mode="r+")
    record: Any = scene.attrs["loosebox"]
    digests = [array_digest(store.pixels(tile)) for tile in tqdm(range(len(store)), "digests", mininterval=10)]
    scene.attrs["loosebox"] = record | {"digests": digests, "images": list(images)}


@dataclass(frozen=True, eq=False)
class Store:
    """A finished store, read tile by tile.

    Tiles are numbered by slice, and within a slice row by row.
    """

    name: str  # of the data set
    tile_shape: tuple[int, int]  # (height, width) of a full tile
    slices: tuple[Slice, ...]
    digests: tuple[str, ...]  # of each tile's pixels, as `convert` wrote them
    images: tuple[str, ...]  # of each slice, as `image_digest` of it before magnification
    _images: zarr.Array[Any]
    _objects: zarr.Array[Any]

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open a store for reading; no pixel is read yet.

        Raises:
            DataError: it is damaged.
        """
        with intact(path):
            scene = zarr.open_group(path, mode="r")
            record: Any = scene.attrs["loosebox"]
            return cls(
                name=Path(path).stem,
                tile_shape=(record["tile"][0], record["tile"][1]),
                slices=tuple(Slice(**origin | {"size": tuple(origin["size"])}) for origin in record["slices"]),
                digests=tuple(record["digests"]),
                images=tuple(record["images"]),
                _images=zarr.open_array(path, path="0", mode="r"),
                _objects=zarr.open_array(path, path="labels/objects/0", mode="r"),
            )

    def __len__(self) -> int:
        """Return the number of tiles."""
        return int(self._first_tiles[-1])

    def pixels(self, i: int) -> NDArray[np.uint8]:
        """The pixels of a tile, YX."""
        return read_whole(self._images, self._chunk(i), self._window(i))

    def objects(self, i: int) -> NDArray[np.uint32]:
        """The object ids of a tile, YX; 0 is background."""
        return read_whole(self._objects, self._chunk(i), self._window(i))

    def split(self, i: int) -> str:
        """The split that a tile belongs to: that of its slice."""
        return self.slices[self.origin(i)[0]].split

    def images_of(self, *splits: str) -> list[str]:
        """Return the digests of the slices of some splits that are not blank, sorted."""
        pairs = zip(self.slices, self.images, strict=True)
        return sorted({digest for origin, digest in pairs if digest and origin.split in splits})

    def shape(self, i: int) -> tuple[int, int]:
        """Return (height, width) of a tile, which is less than the full tile's where the slice ends."""
        z, y, x = self.origin(i)
        height, width = self.slices[z].size
        return min(self.tile_shape[0], height - y), min(self.tile_shape[1], width - x)

    def origin(self, i: int) -> tuple[int, int, int]:
        """Slice and upper left pixel (z, y, x) of a tile."""
        z, row, column = self._chunk(i)
        return z, row * self.tile_shape[0], column * self.tile_shape[1]

    def _chunk(self, i: int) -> tuple[int, int, int]:
        """Return slice, row and column of a tile."""
        z = int(np.searchsorted(self._first_tiles, i, side="right")) - 1
        row, column = divmod(i - int(self._first_tiles[z]), self._grid(z)[1])
        return z, row, column

    @cached_property
    def _first_tiles(self) -> NDArray[np.int64]:
        """The number of each slice's first tile, and the number of all tiles (Z + 1)."""
        return np.cumsum([0, *(rows * columns for rows, columns in map(self._grid, range(len(self.slices))))])

    def _grid(self, z: int) -> tuple[int, int]:
        """Return the tile rows and columns of a slice."""
        height, width = self.slices[z].size
        return -(-height // self.tile_shape[0]), -(-width // self.tile_shape[1])

    def _window(self, i: int) -> tuple[int, slice, slice]:
        (z, y, x), (height, width) = self.origin(i), self.shape(i)
        return z, slice(y, y + height), slice(x, x + width)
