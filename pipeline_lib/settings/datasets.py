"""Settings of data sets: the source of slices, the meaning of labels, splits and tiles."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import TypeIs

from pipeline_lib.settings.base import (
    Ascending,
    Count,
    Different,
    GreyRange,
    List,
    PixelSize,
    Positive,
    Published,
    Settings,
    Title,
    Whole,
    Words,
)

SliceRange = Annotated[
    tuple[Whole, Whole], List, Ascending, Words("[start, stop], two integers of at least 0, start below stop")
]
Patterns = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...],
    List,
    Field(min_length=1),
    Words("a list of patterns of file names"),
]
Rest = Literal["rest"]
SplitPart = SliceRange | Patterns | Rest


def is_range(part: "SplitPart") -> TypeIs[tuple[int, int]]:
    """Return whether the slices of a split are a range, and not patterns or `rest`."""
    return isinstance(part[0], int)


class SyntheticSource(Settings):
    """Generated slices, in the layout of a real data set."""

    kind: Literal["synthetic"]
    """Kind of the source."""
    layout: Literal["lab", "isbi2012", "epfl"]
    """Layout of the files: a lab's folder of slices beside a folder of labels, or the files of ISBI 2012 or EPFL."""
    slices: Count
    """Slices of each volume."""
    size: Annotated[
        tuple[Annotated[int, Field(ge=64)], Annotated[int, Field(ge=64)]],
        List,
        Words("[height, width], two integers of at least 64"),
    ]
    """Height and width of a slice, pixels."""
    seed: Whole
    """Seed of the generator."""


class PathSource(Settings):
    """A user's own files."""

    kind: Literal["path"]
    """Kind of the source."""
    folder: str
    """Folder of the files. A relative path is a path in the folder `data`."""


class RemoteFile(Settings):
    """A file to download."""

    url: Annotated[str, Field(pattern="^https?://"), Words("an address that begins with http:// or https://")]
    """Address of the file."""
    checksum: Annotated[
        str,
        Field(pattern="^(sha256|xxh128):[0-9a-f]+$"),
        Words("sha256: or xxh128: and a hexadecimal number"),
    ]
    """Checksum that the file must have."""
    name: Annotated[
        str,
        Field(pattern="^[A-Za-z0-9_][A-Za-z0-9_.-]*$"),
        Words("the plain name of a file"),
    ]
    """Name of the downloaded file."""
    unpack: bool
    """Whether to unpack the file, a ZIP archive, into a folder of its name."""


class DownloadSource(Settings):
    """Files from other sites."""

    kind: Literal["download"]
    """Kind of the source."""
    files: Annotated[tuple[RemoteFile, ...], List, Field(min_length=1)]
    """Files to download."""


SOURCES = (SyntheticSource, PathSource, DownloadSource)


def _without_keys_of_other_kinds(source: Any) -> Any:
    """Remove keys of other kinds of sources, which remain if an overlay changes the kind."""
    if not isinstance(source, dict):
        return source
    keys = {each.model_fields["kind"].annotation.__args__[0]: set(each.model_fields) for each in SOURCES}  # type: ignore[union-attr]
    kind = source.get("kind")
    if not isinstance(kind, str) or kind not in keys:
        return source
    foreign = set().union(*keys.values()) - keys[kind]
    return {key: value for key, value in source.items() if key not in foreign}


Source = Annotated[
    SyntheticSource | PathSource | DownloadSource,
    Field(discriminator="kind"),
]
ReadSource = Annotated[Source, BeforeValidator(_without_keys_of_other_kinds)]


class Split(Settings):
    """The slices of each split: [start, stop], patterns of file names, or `rest`.

    A range is half-open. A pattern has `*`, `?` and `[…]`, and matches a file's name with or without its suffix. `rest`
    takes all files that no other split names. A slice can be in one split only.
    """

    train: SplitPart | None = None
    """Slices to train on."""
    validation: SplitPart | None = None
    """Slices that pick the best epoch, and on which settings can be chosen."""
    test: SplitPart | None = None
    """Slices to test."""

    def parts(self) -> dict[str, SplitPart]:
        """Return the ranges, patterns or `rest` of the splits that have slices, by name."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in splits.items() if part is not None}

    def ranges(self) -> dict[str, tuple[int, int]]:
        """Return the ranges of the splits that are ranges, by name."""
        return {name: part for name, part in self.parts().items() if is_range(part)}

    @model_validator(mode="after")
    def _check(self) -> "Split":
        if not self.parts():
            raise ValueError("expected slices for at least one split")
        if sum(part == "rest" for part in self.parts().values()) > 1:
            raise ValueError("but only one split can be `rest`")
        ranges = sorted((start, stop, name) for name, (start, stop) in self.ranges().items())
        for (_, stop, name), (start, _, following) in pairwise(ranges):
            if start < stop:
                raise ValueError(f"but slices {start} to {stop} are in both {name} and {following}")
        return self


class Volume(Settings):
    """A stack of slices with its labels."""

    images: str
    """Path of the slices in the folder of the source: a folder, a TIFF or HDF5 file (`file.h5:dataset`) or a Zarr
    array."""
    labels: str
    """Path of the labels, in the same formats."""
    split: Split
    """Which slices belong to which split."""
    every: Count = 1
    """Distance of the slices that are used: 5 uses every fifth slice of each range."""
    slices: Count | None = None
    """Number of slices that the stack must have. A stack with another number is refused, because the ranges of the
    splits were not chosen for it. Null accepts any number."""
    pairing: Literal["number", "position"] = "number"
    """How the files of two folders are paired: always in the order of their names. With `number`, the last numbers in
    the names of each pair must also agree."""
    missing_chunks: Annotated[tuple[Literal["images", "labels"], ...], List, Different] = ()
    """Zarr arrays whose writer left out blank chunks. An incomplete array is refused if it is not named here."""


class InstanceLabels(Settings):
    """Labels that number the objects."""

    kind: Literal["instances"]
    """Each value except 0 is the number of an object. 0 is background."""


class BinaryLabels(Settings):
    """Labels with one value for all objects."""

    kind: Literal["binary"]
    """One value marks all objects. Each connected component is an object."""
    foreground: int
    """Value of the objects."""


class MembraneLabels(Settings):
    """Labels of the membranes that separate objects."""

    kind: Literal["membrane"]
    """One value marks the membranes. Each connected component of all other pixels is an object."""
    membrane: int
    """Value of the membranes."""


Labels = Annotated[InstanceLabels | BinaryLabels | MembraneLabels, Field(discriminator="kind")]
Volumes = Annotated[tuple[Volume, ...], List, Field(min_length=1)]


class Crops(Settings):
    """Random crops of labelled images. They replace whole slices in training and validation.

    A crop is one tile with a random magnification. So a model learns objects of several sizes from a data set with few
    large images, or with objects of one size.
    """

    train: Whole
    """Number of crops from slices of the training split."""
    validation: Whole
    """Number of crops from slices of the validation split."""
    object_side: Annotated[
        tuple[Positive, Positive], List, Ascending, Words("[smallest, largest], two numbers above 0, ascending")
    ]
    """Range of the typical side of an object after magnification, pixels. A side is drawn for each crop,
    log-uniformly."""
    augment: bool
    """Whether training crops are turned, mirrored and stretched, and get random sharpness, contrast, brightness and
    noise. One in five is inverted."""
    seed: Whole
    """Seed of the draws."""


class Dataset(Settings):
    """A data set."""

    title: Title
    """Title in the tables and charts."""
    published: Published | None
    """The paper's table to print beside ours, or null."""
    source: ReadSource
    """Where the files come from."""
    volumes: Volumes
    """Stacks of slices, with their labels and splits."""
    labels: Labels
    """What the values of the labels mean."""
    minimum_area: Count
    """Smallest area of an object, pixels. Smaller connected components are ignored."""
    magnification: Positive = 1.0
    """Factor by which slices and labels are resized before they are cut into tiles."""
    pixel_size: PixelSize
    """Size of a pixel, nm."""
    grey_range: GreyRange | None
    """Grey values that become black and white. Null is for 8-bit images."""
    crops: Crops | None = None
    """Random crops that replace whole slices in training and validation. Null uses the slices. Crops need `tile`."""
    tile: Annotated[int, Field(ge=16)] | None
    """Side of the tiles that the encoder sees, pixels. Tiles do not overlap. Null uses whole slices."""
    folds: Annotated[int, Field(ge=3, le=1000)] | None = None
    """Number of folds for cross-validation. The slices of the splits are divided into this number of blocks, and each
    block is tested once, with models that were trained on the others. Null is for no folds."""


def splits_of(volumes: Iterable[Volume]) -> set[str]:
    """Return the names of the splits for which some volumes have slices."""
    return {name for volume in volumes for name in volume.split.parts()}
