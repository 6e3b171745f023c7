"""Decide what the numbers in an image file mean. All readers use these rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.errors import DataError

Use = Literal["grey", "labels"]  # whether the numbers are grey values or the numbers of objects
ORIENTATION = 274  # number of the tag, in EXIF and TIFF
UPRIGHT = 1  # value of the tag if the image is stored as it is shown
GREY_ALONE = (
    "expected grey slices, found colour or channels. Save them as grey. If this is a stack of three or four slices, "
    "write it with photometric='minisblack'."
)
STACK_AXES = frozenset("ztiqr")  # axes that can number the slices of a stack: depth, time, and axes without a name


@dataclass(frozen=True)
class HeldAxes:
    """An array with some axes held at one position, such as the axis of channels."""

    array: Any
    held: tuple[int | None, ...]
    """The position on each axis of `array`; None for the axes that remain."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes that remain."""
        return tuple(side for side, at in zip(self.array.shape, self.held, strict=True) if at is None)

    @property
    def ndim(self) -> int:
        """The number of axes that remain."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a pixel."""
        dtype: np.dtype[Any] = self.array.dtype
        return dtype

    def __getitem__(self, where: tuple[Any, ...]) -> Any:
        positions = iter(where)
        return self.array[tuple(next(positions) if at is None else at for at in self.held)]


def slices_by_axes(path: str, array: Any, axes: str, channel: int | None) -> HeldAxes:
    """Return the slices (ZYX) or the slice (YX) of an array with known axes.

    Args:
        path: Path of the file, for messages.
        array: Pixels with a `shape` and a `dtype`.
        axes: A letter for each axis: z, t, c, y, x; s for the samples of a colour; i, q and r for axes without a name.
        channel: Which channel to take, counted from 0. None if the array has no channels, or one.

    Raises:
        DataError: The array has several channels and none is chosen, or there is no such channel. Or it has more than
            one axis of slices, such as time and depth. Or its last two axes are not y and x.
    """
    axes = axes.lower()
    sides = list(zip(axes, array.shape, strict=True))  # a list, because an axis without a name can occur twice
    channels = max((side for axis, side in sides if axis == "c"), default=1)
    check_channel(path, channels, channel)
    long = [(axis, side) for axis, side in sides if axis in STACK_AXES and side > 1]
    if len(long) > 1:
        listed = " and ".join(f"{axis.upper()} ({side})" for axis, side in long)
        raise DataError(
            f"{path}: expected one axis of slices, found {listed}. Save each position of {long[0][0].upper()} as a "
            "file, in Fiji with Image > Duplicate"
        )
    if not axes.replace("s", "").endswith("yx") or set(axes) - STACK_AXES - set("cyxs"):
        raise DataError(
            f"{path}: expected slices whose last axes are y and x, found the axes {axes.upper()}. Save them again in "
            "this order"
        )
    fixed = {"c": channel or 0}
    positions = (None if axis in "yx" or (axis, side) in long else fixed.get(axis, 0) for axis, side in sides)
    return HeldAxes(array, tuple(positions))


def check_channel(path: str, channels: int, channel: int | None) -> None:
    """Check the choice of a channel.

    Args:
        path: Path of the file, for messages.
        channels: Number of channels of the image.
        channel: The channel, counted from 0; None if none is chosen.

    Raises:
        DataError: There are several channels and none is chosen, or there is no such channel.
    """
    if channel is None and channels > 1:
        raise DataError(
            f"{path}: expected grey slices, but it has {channels} channels. Choose one with --channel "
            f"(segment.channel), from 0 to {channels - 1}, or save one channel alone"
        )
    if channel is not None and channel >= channels:
        count = f"{channels} channels" if channels > 1 else "one channel"
        raise DataError(f"{path}: expected channel {channel}, counted from 0, but it has {count}. Change --channel")


def check_equal_colours(path: str | Path, pixels: NDArray[Any], axis: int) -> None:
    """Refuse colour: red, green and blue must be the same in each pixel.

    Args:
        path: Path of the file, for messages.
        pixels: An array with an axis of 2 (grey, alpha), 3 (RGB) or 4 (RGBA) samples. Alpha is ignored.
        axis: The axis of samples.
    """
    samples = np.moveaxis(pixels, axis, 0)
    colours = samples[: 1 if len(samples) == 2 else 3]
    if not all(np.array_equal(colours[0], other) for other in colours[1:]):
        raise DataError(f"{path}: {GREY_ALONE}")


def palette_greys(path: str | Path, colours: NDArray[Any], use: Use) -> NDArray[np.uint8] | None:
    """Return the grey value (N,) of each entry of a palette; None if the numbers are grey values or labels already.

    Args:
        path: Path of the file, for messages.
        colours: (N, 3), red, green and blue, uint8, or uint16 as in TIFF.
        use: Whether the numbers are grey values or labels. Labels do not need the palette, which only colours them.

    Raises:
        DataError: The palette has colours.
    """
    if use == "labels":
        return None
    if not (colours == colours[:, :1]).all():
        raise DataError(
            f"{path}: expected grey values, but its numbers stand for colours of a palette. Save the image as grey, in "
            "Fiji with Image > Lookup Tables > Grays"
        )
    greys: NDArray[Any] = colours[:, 0]
    if colours.dtype != np.uint8:  # TIFF multiplies 8-bit values by 257 or 256
        greys = greys // (257 if (greys % 257 == 0).all() else 256)
    return None if np.array_equal(greys, np.arange(len(greys))) else greys.astype(np.uint8)


def check_lossless(path: str | Path, compression: str, use: Use) -> None:
    """Refuse labels with lossy compression, which changes their numbers."""
    if use == "labels" and compression.upper() in ("JPEG", "OJPEG", "MPO"):
        raise DataError(
            f"{path}: expected labels in a format without loss, found JPEG, which changes numbers at the outlines of "
            "objects. Save the original labels as PNG or TIFF. Converting the JPEG file does not help"
        )


def check_upright(path: str | Path, orientation: int) -> None:
    """Refuse a TIFF file whose tag Orientation says that it must be turned."""
    if orientation != UPRIGHT:
        raise DataError(
            f"{path}: its tag Orientation is {orientation}, so some programs turn the image and others do not. Save "
            "it upright"
        )


def listed_axes(names: Sequence[Any]) -> str:
    """Return a letter for each axis of OME-Zarr. The metadata hold objects with a name, or only names."""
    return "".join(str(each["name"] if isinstance(each, dict) else each)[:1] for each in names)
