"""Draw random crops of labelled images at random magnifications.

They replace whole slices in training if images differ in size, and objects in scale. A side is drawn from a range for
each crop, and the crop is magnified so that the objects of its image get this side. The frozen encoder sees each crop
once, so images are augmented here and not during the training.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from zlib import crc32

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from pipeline_lib.data.boxes import object_boxes
from pipeline_lib.data.dataset import Slice
from pipeline_lib.data.tiling import components
from pipeline_lib.errors import DataError
from pipeline_lib.settings.datasets import Crops, InstanceLabels

TYPICAL = 75  # the typical side of the objects of an image is this percentile of their sides
MAGNIFICATIONS = (0.2, 4.0)  # range
STRETCH = 0.15  # one side of an augmented crop grows by up to exp(STRETCH), and the other one shrinks by it
FEWEST = 3  # smallest number of objects in a crop
FLATTEST = 2.0  # smallest standard deviation of the grey values of a crop
TRIES = 60  # number of tries for each crop


@dataclass(frozen=True)
class LabelledImage:
    """A slice with its objects."""

    origin: Slice
    pixels: NDArray[np.uint8]  # YX
    objects: NDArray[np.uint32]  # YX, 0 is background

    @cached_property
    def typical_side(self) -> float:
        """Typical side of an object, pixels. The side of an object is the root of the area of its bounding box."""
        sides = [np.sqrt((x1 - x0) * (y1 - y0)) for _, x0, y0, x1, y1, _ in object_boxes(self.objects)]
        return float(np.percentile(sides, TYPICAL)) if sides else 0.0


def draw_crops(
    name: str, images: Sequence[LabelledImage], crops: Crops, side: int, minimum_area: int
) -> Iterator[LabelledImage]:
    """Yield the crops of a data set, first those for training and then those for validation.

    Args:
        name: Name of the data set. The name and the seed of `crops` decide the draws.
        images: Images of the splits `train` and `validation`.
        crops: Settings of the crops.
        side: Side of a tile, pixels. It is the longest side of a crop.
        minimum_area: Smallest area of an object in a crop, pixels.

    Yields:
        Crops. Their objects are the connected components within them, numbered anew.

    Raises:
        DataError: There are too few crops with objects.
    """
    for number, (split, count) in enumerate((("train", crops.train), ("validation", crops.validation))):
        choices = [image for image in images if image.origin.split == split and image.typical_side]
        rng = np.random.default_rng([crops.seed, crc32(name.encode()), number])
        augmented = crops.augment and split == "train"
        yield from _crops_of_split(rng, choices, crops, count, side, minimum_area, augmented)


def _crops_of_split(
    rng: Generator,
    images: Sequence[LabelledImage],
    crops: Crops,
    count: int,
    side: int,
    minimum_area: int,
    augmented: bool,
) -> Iterator[LabelledImage]:
    if count and not images:
        raise DataError(
            f"crops: expected an image with objects in each split, found none for {count} crops. Add labelled images"
        )
    typical = np.array([image.typical_side for image in images])
    # Large images with small objects hold more crops
    weights = np.sqrt([image.pixels.size for image in images]) / typical
    accepted = 0
    for _ in range(TRIES * count):
        if accepted == count:
            return
        number = rng.choice(len(images), p=weights / weights.sum())
        # Cut a crop in which objects have a random side
        low, high = np.log(crops.object_side)
        magnification = np.clip(np.exp(rng.uniform(low, high)) / typical[number], *MAGNIFICATIONS)
        crop = _crop(rng, images[number], float(magnification), side, STRETCH if augmented else 0.0)
        objects = components(crop.objects, InstanceLabels(kind="instances"), minimum_area)
        if np.count_nonzero(np.unique(objects)) < FEWEST or crop.pixels.std() < FLATTEST:
            continue
        # Augment it
        pixels = crop.pixels
        if augmented:
            pixels = with_other_tones(rng, pixels)
            pixels, objects = turn(rng, pixels, objects)
        accepted += 1
        yield LabelledImage(_with_size_of(crop.origin, pixels), pixels, objects)
    if accepted < count:
        raise DataError(
            f"crops: expected {count} crops with at least {FEWEST} objects, found only {accepted}. Lower the number "
            "of crops"
        )


def _crop(rng: Generator, image: LabelledImage, magnification: float, side: int, stretch: float) -> LabelledImage:
    """Cut a random part out of an image, and magnify it to at most `side` pixels along both sides.

    `stretch` is the largest change of a side by augmentation, as `STRETCH`.
    """
    ratio = float(np.exp(rng.uniform(-stretch, stretch)))
    factors = magnification * ratio, magnification / ratio
    height, width = image.pixels.shape
    rows, columns = (
        min(length, int(np.ceil(side / factor))) for length, factor in zip((height, width), factors, strict=True)
    )
    y, x = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
    size = tuple(
        min(side, max(1, round(length * factor))) for length, factor in zip((columns, rows), factors[::-1], strict=True)
    )
    part = slice(y, y + rows), slice(x, x + columns)
    # If an image shrinks, the bilinear filter of Pillow averages the pixels that each new one covers
    pixels = np.asarray(Image.fromarray(image.pixels[part]).resize(size, Image.Resampling.BILINEAR))
    objects = Image.fromarray(image.objects[part].astype(np.int32)).resize(size, Image.Resampling.NEAREST)
    return LabelledImage(image.origin, pixels, np.asarray(objects).astype(np.uint32))


def _with_size_of(origin: Slice, pixels: NDArray[np.uint8]) -> Slice:
    height, width = pixels.shape
    return Slice(origin.split, origin.volume, origin.index, (height, width))


def with_other_tones(rng: Generator, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image YX with random sharpness, contrast, brightness and noise. One in five is inverted."""
    grey = _normalise(pixels.astype(np.float32))
    if rng.random() < 0.3:
        grey = gaussian_filter(grey, rng.uniform(0.5, 1.5))
    if rng.random() < 0.5:
        black, white = np.percentile(grey, [rng.uniform(0, 3), rng.uniform(97, 100)])
        grey = np.clip((grey - black) / max(white - black, 1e-3), 0, 1)
    if rng.random() < 0.7:
        grey = np.clip(grey, 0, 1) ** np.exp(rng.uniform(-0.6, 0.6))
    if rng.random() < 0.2:
        grey = 1 - grey
    if rng.random() < 0.5:
        noise = rng.normal(size=grey.shape).astype(np.float32)
        if rng.random() < 0.5:
            noise = gaussian_filter(noise, 0.7)
            noise /= noise.std()
        grey = grey + rng.uniform(0.02, 0.12) * noise
    return np.asarray((_normalise(np.clip(grey, 0, 1)) * 255).round(), np.uint8)


def _normalise(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale grey values to the range from 0 to 1."""
    low, high = grey.min(), grey.max()
    return np.asarray((grey - low) / max(high - low, 1e-3), np.float32)


def turn(
    rng: Generator, pixels: NDArray[np.uint8], objects: NDArray[np.uint32]
) -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Return an image YX and its objects in a random one of the eight orientations of a square."""
    turns, is_mirrored = int(rng.integers(4)), rng.random() < 0.5
    pixels, objects = np.rot90(pixels, turns), np.rot90(objects, turns)
    if is_mirrored:
        pixels, objects = pixels[:, ::-1], objects[:, ::-1]
    return np.ascontiguousarray(pixels), np.ascontiguousarray(objects)
