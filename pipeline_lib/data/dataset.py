"""Write and read the store of a data set: one OME-Zarr 0.5 (Zarr v3) of grey slices, their objects and their splits.

    0                  images, uint8 ZYX
    labels/objects/0   objects, uint32 ZYX: 0 is background, and each tile numbers its objects anew

Both arrays have one resolution level. Their chunks are the tiles, which do not overlap. The encoder sees one tile at a
time, and boxes, embeddings and masks belong to a tile. Slices can differ in size: the arrays have the size of the
largest slice, and smaller slices have fewer tiles. Metadata: https://ngff.openmicroscopy.org/0.5/
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

CODECS = (ZstdCodec(level=0), Crc32cCodec())  # the checksum shows whether a chunk is damaged
EACH_CHUNK: Any = {"write_empty_chunks": True}  # so that a missing chunk is an error, see `read_whole`


def chunk_path(array: zarr.Array[Any], chunk: tuple[int, ...]) -> Path:
    """Return the file of a chunk (z, y, x) of an array in a folder."""
    store: Any = array.store_path.store
    return Path(store.root) / array.path / array.metadata.encode_chunk_key(chunk)


def read_whole(array: zarr.Array[Any], chunk: tuple[int, ...], where: Any) -> NDArray[Any]:
    """Read a part of an array that lies within one chunk.

    Args:
        array: An array of a store.
        chunk: Number of the chunk (z, y, x).
        where: Index of the part in the array.

    Raises:
        DataError: The chunk is damaged, or missing, which Zarr would read as zeros.
    """
    path = chunk_path(array, chunk)
    with intact(path):
        if not path.exists():
            raise DataError(f"{path}: this chunk is missing. Delete the Zarr folder, and Snakemake makes it again")
        return np.asarray(array[where])


def image_digest(pixels: NDArray[np.uint8]) -> str:
    """Return a digest of an image YX, to find it in other data sets. It is empty if all pixels are equal."""
    return "" if (pixels == pixels[0, 0]).all() else array_digest(pixels)


@dataclass(frozen=True)
class Slice:
    """The origin of a slice of the store, and its size."""

    split: str
    volume: int  # index in the list of volumes of the data set
    index: int  # index in that volume
    size: tuple[int, int]  # (height, width) in the store, pixels


def create(
    path: str | Path, tile_shape: tuple[int, int], slices: Sequence[Slice], pixel_size: Sequence[float]
) -> tuple[zarr.Array[Any], zarr.Array[Any]]:
    """Create an empty store, and return its arrays of images (uint8, ZYX) and objects (uint32, ZYX).

    Args:
        path: A folder that does not exist yet.
        tile_shape: (height, width) of a tile, pixels. Tiles at the end of a slice are smaller.
        slices: Origin and size of each slice.
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
    """Record a digest of each tile and of each image in a complete store. Later stages then need not read the pixels.

    Args:
        path: Path of the store.
        images: The `image_digest` of each slice before its magnification.
    """
    store, scene = Store.open(path), zarr.open_group(path, mode="r+")
    record: Any = scene.attrs["loosebox"]
    digests = [array_digest(store.pixels(tile)) for tile in tqdm(range(len(store)), "digests", mininterval=10)]
    scene.attrs["loosebox"] = record | {"digests": digests, "images": list(images)}


@dataclass(frozen=True, eq=False)
class Store:
    """A complete store, read tile by tile.

    Tiles are numbered slice by slice, and row by row within a slice.
    """

    name: str  # name of the data set
    tile_shape: tuple[int, int]  # (height, width) of a full tile, pixels
    slices: tuple[Slice, ...]
    digests: tuple[str, ...]  # digest of the pixels of each tile
    images: tuple[str, ...]  # `image_digest` of each slice before its magnification
    _images: zarr.Array[Any]
    _objects: zarr.Array[Any]

    @classmethod
    def open(cls, path: str | Path) -> "Store":
        """Open a store. No pixel is read yet.

        Raises:
            DataError: The store is damaged.
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
        """Return the pixels of a tile, YX."""
        return read_whole(self._images, self._chunk(i), self._window(i))

    def objects(self, i: int) -> NDArray[np.uint32]:
        """Return the numbers of the objects of a tile, YX. 0 is background."""
        return read_whole(self._objects, self._chunk(i), self._window(i))

    def split(self, i: int) -> str:
        """Return the split of a tile, which is that of its slice."""
        return self.slices[self.origin(i)[0]].split

    def images_of(self, *splits: str) -> list[str]:
        """Return the sorted digests of the slices of some splits. Blank slices are left out."""
        pairs = zip(self.slices, self.images, strict=True)
        return sorted({digest for origin, digest in pairs if digest and origin.split in splits})

    def shape(self, i: int) -> tuple[int, int]:
        """Return the (height, width) of a tile in pixels. At the end of a slice it is smaller than a full tile."""
        z, y, x = self.origin(i)
        height, width = self.slices[z].size
        return min(self.tile_shape[0], height - y), min(self.tile_shape[1], width - x)

    def origin(self, i: int) -> tuple[int, int, int]:
        """Return the slice and the upper left pixel (z, y, x) of a tile."""
        z, row, column = self._chunk(i)
        return z, row * self.tile_shape[0], column * self.tile_shape[1]

    def _chunk(self, i: int) -> tuple[int, int, int]:
        """Return the slice, and the row and column in its grid, of a tile."""
        z = int(np.searchsorted(self._first_tiles, i, side="right")) - 1
        row, column = divmod(i - int(self._first_tiles[z]), self._grid(z)[1])
        return z, row, column

    @cached_property
    def _first_tiles(self) -> NDArray[np.int64]:
        """Number of the first tile of each slice, and after them the number of all tiles (Z + 1)."""
        return np.cumsum([0, *(rows * columns for rows, columns in map(self._grid, range(len(self.slices))))])

    def _grid(self, z: int) -> tuple[int, int]:
        """Return the numbers of rows and columns of tiles in a slice."""
        height, width = self.slices[z].size
        return -(-height // self.tile_shape[0]), -(-width // self.tile_shape[1])

    def _window(self, i: int) -> tuple[int, slice, slice]:
        (z, y, x), (height, width) = self.origin(i), self.shape(i)
        return z, slice(y, y + height), slice(x, x + width)
