"""What the numbers in an image file mean. Every reader asks here, so that all formats follow the same rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline_lib.errors import DataError

Use = Literal["grey", "labels"]  # whether the numbers are grey values or the numbers of objects
ORIENTATION = 274  # number of the tag, in EXIF and TIFF
UPRIGHT = 1  # its value of an image that is stored as it is shown
GREY_ALONE = (
    "grey slices are expected, not colour or channels. Save them as grey; if this is a stack of three or four slices, "
    "write it with photometric='minisblack'"
)
STACK_AXES = frozenset("ztiqr")  # axes that can number the slices of a stack: depth, time, and those without a name


@dataclass(frozen=True)
class HeldAxes:
    """An array of which some axes are held at one position, such as that of a channel."""

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
        chosen = iter(where)
        return self.array[tuple(next(chosen) if at is None else at for at in self.held)]


def slices_by_axes(path: str, array: Any, axes: str, channel: int | None) -> HeldAxes:
    """Return the slices (ZYX) or the slice (YX) of an array whose axes are known.

    Args:
        path: Of the file, for error messages.
        array: Pixels with a `shape` and a `dtype`.
        axes: A letter for each axis: z, t, c, y, x, s for the samples of a colour; i, q and r for axes without a name.
        channel: Which channel to take, counted from 0. None if the array has no channels, or one.

    Raises:
        DataError: The array has several channels and none is chosen, or there is no such channel. It has more than one
            axis of slices, such as time and depth. The last two axes are not y and x.
    """
    axes = axes.lower()
    sides = list(zip(axes, array.shape, strict=True))  # an axis without a name can be there twice
    channels = max((side for axis, side in sides if axis == "c"), default=1)
    check_channel(path, channels, channel)
    long = [(axis, side) for axis, side in sides if axis in STACK_AXES and side > 1]
    if len(long) > 1:
        listed = " and ".join(f"{axis.upper()} ({side})" for axis, side in long)
        raise DataError(
            f"{path}: one axis of slices is expected, found {listed}. Save each position of {long[0][0].upper()} as a "
            "file, in Fiji with Image > Duplicate"
        )
    if not axes.replace("s", "").endswith("yx") or set(axes) - STACK_AXES - set("cyxs"):
        raise DataError(f"{path}: expected slices whose last axes are y and x, found the axes {axes.upper()}")
    fixed = {"c": channel or 0}
    held = (None if axis in "yx" or (axis, side) in long else fixed.get(axis, 0) for axis, side in sides)
    return HeldAxes(array, tuple(held))


def check_channel(path: str, channels: int, channel: int | None) -> None:
    """Refuse an image with several channels of which none is chosen, and a channel that is not there."""
    if channel is None and channels > 1:
        raise DataError(
            f"{path}: grey slices are expected, not colour or channels; it has {channels} channels. Choose one with "
            f"--channel (segment.channel), from 0 to {channels - 1}, or save one channel alone"
        )
    if channel is not None and channel >= channels:
        count = f"{channels} channels" if channels > 1 else "one channel"
        raise DataError(f"{path}: there is no channel {channel}; it has {count}, counted from 0. Change --channel")


def check_equal_colours(path: str | Path, pixels: NDArray[Any], axis: int) -> None:
    """Refuse colour: red, green and blue must be the same in each pixel.

    Args:
        path: Of the file, for the error message.
        pixels: An array with an axis of 2 (grey, alpha), 3 (RGB) or 4 (RGBA) samples. Alpha is left out.
        axis: That axis.
    """
    samples = np.moveaxis(pixels, axis, 0)
    colours = samples[: 1 if len(samples) == 2 else 3]
    if not all(np.array_equal(colours[0], other) for other in colours[1:]):
        raise DataError(f"{path}: {GREY_ALONE}")


def palette_greys(path: str | Path, colours: NDArray[Any], use: Use) -> NDArray[np.uint8] | None:
    """Return the grey value (N,) of each entry of a palette; None if the numbers are grey values or labels already.

    Args:
        path: Of the file, for error messages.
        colours: (N, 3), red, green and blue: uint8, or uint16 as in TIFF.
        use: The numbers of labels need no palette: it only colours them.

    Raises:
        DataError: The palette has colours.
    """
    if use == "labels":
        return None
    if not (colours == colours[:, :1]).all():
        raise DataError(
            f"{path}: its numbers stand for colours of a palette; save the image as grey, in Fiji with Image > Lookup "
            "Tables > Grays"
        )
    greys: NDArray[Any] = colours[:, 0]
    if colours.dtype != np.uint8:  # TIFF has 257 or 256 times the 8-bit value
        greys = greys // (257 if (greys % 257 == 0).all() else 256)
    return None if np.array_equal(greys, np.arange(len(greys))) else greys.astype(np.uint8)


def check_lossless(path: str | Path, compression: str, use: Use) -> None:
    """Refuse labels that were compressed with a loss, which changes their numbers."""
    if use == "labels" and compression.upper() in ("JPEG", "OJPEG", "MPO"):
        raise DataError(
            f"{path}: labels are expected in a format without loss, and JPEG changes numbers at the outlines of "
            "objects. Save the labels anew as PNG or TIFF; a JPEG file that is only converted keeps the wrong numbers"
        )


def check_upright(path: str | Path, orientation: int) -> None:
    """Refuse a TIFF file whose tag Orientation says that it must be turned."""
    if orientation != UPRIGHT:
        raise DataError(
            f"{path}: its tag Orientation is {orientation}, so some programs turn it and others do not. Save it upright"
        )


def listed_axes(names: Sequence[Any]) -> str:
    """Return the axes of OME-Zarr, objects with a name or names alone, as one letter each."""
    return "".join(str(each["name"] if isinstance(each, dict) else each)[:1] for each in names)
