"""Download and convert the public data sets that the shipped model was trained on.

Each set becomes a folder SET with images/*.png (8-bit grey), labels/*.png (16-bit instance numbers, 0 is background)
of the same stems, and SOURCE.json (repository, commit, licence, git ids of the source files, counts and digest of the
result).
"""

import argparse
import gzip
import hashlib
import io
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from zipfile import ZipFile, is_zipfile

import h5py
import imageio.v3 as iio
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from skimage.draw import polygon
from skimage.measure import label

from pipeline_lib.data.download import fetch
from pipeline_lib.errors import DataError, intact
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.runtime.hashing import array_digest, key_of

GITHUB = "https://github.com"
CONTENTS = Path(__file__).with_name("contents.json")  # by set: git ids of its files, counts and digest of the result
SMALLEST = 64  # pixels; smaller objects become background

Files: TypeAlias = Mapping[str, bytes]  # path in the repository: content
Grey: TypeAlias = NDArray[np.uint8]  # YX
Labels: TypeAlias = NDArray[Any]  # YX, integers: 0 is background
Slices: TypeAlias = Iterator[tuple[str, Grey, Labels]]  # stem of the file names, image, instance numbers

log = logging.getLogger("prepare")


@dataclass(frozen=True)
class Source:
    """The repository of a set, and the function that converts its files to images and labels."""

    repository: str  # OWNER/NAME on GitHub
    commit: str
    licence: str
    convert: Callable[[Files], Slices]


# Steps that several sets share


def first_channel(content: bytes) -> Grey:
    """Return the grey values of a PNG file, which may have equal colour channels or an alpha channel."""
    pixels: Grey = iio.imread(content)
    return pixels[..., 0] if pixels.ndim == 3 else pixels


def read_tiff(content: bytes) -> NDArray[Any]:
    """Return the pixels of a TIFF file."""
    # NASA's masks describe themselves with a wrong shape, which `is_shaped=False` ignores.
    pixels: NDArray[Any] = tifffile.imread(io.BytesIO(content), is_shaped=False)
    return pixels


def as_8_bit(image: NDArray[Any]) -> Grey:
    """Stretch a 16-bit image between its percentiles 0.1 and 99.9; return an 8-bit image as it is."""
    if image.dtype == np.uint8:
        return image
    black, white = np.percentile(image, [0.1, 99.9])
    grey: Grey = (np.clip((image - black) / (white - black), 0, 1) * 255).astype(np.uint8)
    return grey


def components(labels: NDArray[Any]) -> Labels:
    """Number the 4-connected components of each value except 0."""
    numbers: Labels = label(labels, connectivity=1)
    return numbers


def together(first: Labels, second: Labels) -> Labels:
    """Combine the objects of two classes; where they overlap, the second class has the pixel."""
    return np.where(second > 0, second + first.max(), first)


def without_small(labels: Labels) -> NDArray[np.uint16]:
    """Set objects of fewer than SMALLEST pixels to 0, and number the others 1 to N in their order."""
    is_large = np.bincount(labels.ravel()) >= SMALLEST
    is_large[0] = False
    return np.where(is_large, np.cumsum(is_large), 0).astype(np.uint16)[labels]


# The sets


def axons(files: Files, classes: Sequence[str]) -> Slices:
    """Convert a BIDS data set of AxonDeepSeg: a binary mask for each image and class."""
    for path, content in files.items():
        if not path.startswith("sub-"):
            continue
        masks = f"derivatives/labels/{path.removesuffix('.png')}_seg-{{}}-manual.png"
        labels = np.zeros(1, int)
        for name in classes:
            labels = together(labels, components(first_channel(files[masks.format(name)]) > 127))
        yield PurePosixPath(path).stem, first_channel(content), without_small(labels)


def chloroplasts(files: Files) -> Slices:
    """Convert the stack of leaf slices to half the resolution.

    Small objects are removed before the reduction, as for the shipped model; a few are left with under 64 pixels.
    """
    for path, content in files.items():
        if "/Seperated_Images/" not in path:
            continue
        image = Image.fromarray(read_tiff(content))
        half = (image.width // 2, image.height // 2)
        pieces = components(read_tiff(files[path.replace("/Seperated_Images/", "/Seperated_Labels/")]))
        labels = Image.fromarray(without_small(pieces).astype(np.int32))  # Pillow does not resize 16-bit images
        yield (
            f"chloroplast_{PurePosixPath(path).stem}",
            np.asarray(image.resize(half, Image.Resampling.BOX)),
            np.asarray(labels.resize(half, Image.Resampling.NEAREST)).astype(np.uint16),
        )


def sieve_plate(files: Files) -> Slices:
    """Convert the image of a sieve plate and its binary mask."""
    image, mask = (read_tiff(files[f"ExampleData/plate{kind}2D.tif"]) for kind in ("Image", "Label"))
    yield "plate", image, without_small(components(mask > 0))


def powder(files: Files) -> Slices:
    """Convert the polygons of the VGG Image Annotator; where two overlap, the smaller one has the pixel."""
    for path, content in files.items():
        if not path.endswith(".json"):
            continue
        split = PurePosixPath(path).stem.rpartition("_")[-1]  # training or validation
        for entry in json.loads(content)["_via_img_metadata"].values():
            image = first_channel(files[f"examples/powder/data/images_png/{entry['filename']}"])
            yield f"{split}_{PurePosixPath(entry['filename']).stem}", image, _polygons(entry["regions"], image.shape)


def _polygons(regions: Sequence[Mapping[str, Any]], shape: tuple[int, ...]) -> NDArray[np.uint16]:
    outlines = [region["shape_attributes"] for region in regions]
    inside = [polygon(outline["all_points_y"], outline["all_points_x"], shape) for outline in outlines]
    labels = np.zeros(shape, int)
    for number in sorted(range(len(inside)), key=lambda number: -len(inside[number][0])):
        labels[inside[number]] = number + 1
    return without_small(labels)


def spheroidite(files: Files) -> Slices:
    """Convert micrographs of steel and their binary masks."""
    for path, content in files.items():
        if "/images/" in path:
            mask = first_channel(files[path.replace("/images/", "/annotations/")]) > 127
            yield PurePosixPath(path).stem, first_channel(content), without_small(components(mask))


def superalloys(files: Files) -> Slices:
    """Convert NASA's micrographs and their masks, in which large precipitates are blue and small ones red.

    The repository repeats many images in Super1 to Super4. CONTENTS names each image once, by its git id.
    """
    for path, content in files.items():
        *_, series, split, file = PurePosixPath(path).parts
        if split.endswith("_annot"):
            continue
        mask = read_tiff(files[path.replace(f"/{split}/", f"/{split}_annot/").replace(".tif", "_mask.tif")])
        full = np.iinfo(mask.dtype).max
        blue, red = (components((mask[..., :3] == colour).all(-1)) for colour in ([0, 0, full], [full, 0, 0]))
        stem = f"{series}_{file.removesuffix('.tif')}".replace(" ", "_")
        yield stem, as_8_bit(read_tiff(content)[..., 0]), without_small(together(blue, red))


def gala(files: Files) -> Slices:
    """Convert every fifth slice of gala's two example volumes."""
    for name in ("train", "test"):
        image, labels = (
            _hdf5(files[f"tests/example-data/{name}-{kind}"])["stack"] for kind in ("image.h5", "gt.lzf.h5")
        )
        for z in range(0, len(image), 5):
            yield f"{name}_z{z:02}", image[z], without_small(components(labels[z]))


def medulla(files: Files) -> Slices:
    """Convert the slices of NeuroProof's example that CONTENTS names, which are every tenth of 250."""
    folder = "training_sample2"
    truth = _hdf5(gzip.decompress(files[f"{folder}/groundtruth.h5.gz"]))
    bodies = np.zeros(truth["transforms"].max(axis=0)[0] + 1, int)  # body of each supervoxel
    supervoxels, bodies_of_these = truth["transforms"].T
    bodies[supervoxels] = bodies_of_these
    for path, content in files.items():
        if match := re.fullmatch(rf"{folder}/grayscale_maps/iso\.(\d+)\.png", path):
            z = int(match[1]) - 2600  # the number of the first slice
            yield f"z{z:03}", first_channel(content), without_small(components(bodies[truth["stack"][z]]))


def _hdf5(content: bytes) -> dict[str, NDArray[Any]]:
    """Return the data sets at the root of an HDF5 file."""
    with h5py.File(io.BytesIO(content)) as file:
        return {name: dataset[()] for name, dataset in file.items()}


AMPIS = partial(Source, "rccohn/AMPIS", "fd822b1b4cb82aa54d8d90f537a5742eef8b12f8")
WSU = partial(Source, "ajbrookhouse/WSU_PlantBio_ML", "45f72c37bcfe553048f92391e2c8689198bd2af7")
SOURCES = {
    "ampis_powder_sem": AMPIS("MIT", powder),
    "ampis_spheroidite_sem": AMPIS("MIT; cite UHCSDB, hdl.handle.net/11256/940 and /964", spheroidite),
    "axondeepseg_sem_rat": Source(
        "axondeepseg/data_axondeepseg_sem",
        "a4d02a1adec4bde04267baab3770e18f441afd73",
        "MIT",
        partial(axons, classes=["axon"]),
    ),
    "axondeepseg_tem_srf_mouse": Source(
        "axondeepseg/data_axondeepseg_srf_testing",
        "e72182a4e4a986dbffd161bd8d2dcb265bab5502",
        "MIT",
        partial(axons, classes=["axon", "uaxon"]),  # myelinated and unmyelinated
    ),
    "gala_fly_em": Source(
        "jni/gala", "975ed783a6cb3c0afe24a921afdacf2f27184fcf", "BSD-3-Clause style, Copyright 2012 HHMI", gala
    ),
    "nasa_superalloy_sem": Source(
        "nasa/pretrained-microscopy-models", "f50b5689a71cf6f86016fb4a5c5a2bb31e0397f3", "MIT", superalloys
    ),
    "neuroproof_fly_medulla": Source(
        "janelia-flyem/neuroproof_examples", "ce839e17deaf4c01153827c6d028dfecfbb4b958", "CC BY", medulla
    ),
    "wsu_chloroplast": WSU("MIT", chloroplasts),
    "wsu_sieve_plate": WSU("MIT", sieve_plate),
}


# Download, check, write


def git_id(content: bytes) -> str:
    """Return the object id that git gives to a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def read(archive: Path, source: Source, ids: Mapping[str, str]) -> dict[str, bytes]:
    """Return the content of the files that `ids` names, from the archive of a commit.

    Raises:
        DataError: The archive cannot be read, lacks a file, or holds another file than the commit.
    """
    remedy = f"remove {archive.resolve()} and run this script again to download it"
    if not is_zipfile(archive):
        raise DataError(f"{archive}: expected a zip archive, found something else, perhaps half a download; {remedy}")
    files = {}
    with intact(archive), ZipFile(archive) as content:
        names = content.namelist()
        top = names[0].split("/")[0]  # NAME-COMMIT; GitHub takes the new name if the repository was renamed
        for path, expected in ids.items():
            if f"{top}/{path}" not in names:
                raise DataError(
                    f"{archive}: expected {path} in the archive of {source.repository} at commit {source.commit}, "
                    f"found no such file; {remedy}"
                )
            files[path] = content.read(f"{top}/{path}")
            actual = git_id(files[path])
            if actual != expected:
                raise DataError(
                    f"{archive}: {path} is not the file of commit {source.commit}: expected git id {expected}, "
                    f"found {actual}; {remedy}"
                )
    return files


def write(folder: Path, source: Source, files: Files) -> dict[str, Any]:
    """Write images and labels below `folder`; return their counts and digest.

    Returns:
        `images` and `objects`: their numbers. `pixels`: a digest of all stems, images and labels.
    """
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    objects, digests = 0, []
    for stem, image, labels in source.convert(files):
        iio.imwrite(folder / "images" / f"{stem}.png", image)
        iio.imwrite(folder / "labels" / f"{stem}.png", labels)
        objects += len(np.unique(labels[labels > 0]))
        digests.append((stem, array_digest(image), array_digest(labels)))
    return {"images": len(digests), "objects": objects, "pixels": key_of(sorted(digests))}


def prepare(
    name: str, source: Source, contents: Mapping[str, Any], out: Path, archives: Path, server: str = GITHUB
) -> bool:
    """Write the set `name` to the folder `out`, unless it is already there.

    Args:
        name: Name of the set, and of its folder in `out`.
        source: Repository, commit and conversion.
        contents: `files` (git ids by path), and the expected `images`, `objects` and `pixels` of `write`.
        out: Folder of all sets.
        archives: Folder of downloaded archives. An archive that a user puts there is used.
        server: Address of GitHub.

    Returns:
        Whether the set was written.

    Raises:
        DataError: The folder exists and this script did not write it; the download failed; or `read` refuses the
            archive.
    """
    folder, record = out / name, out / name / "SOURCE.json"
    origin = {"repository": source.repository, "commit": source.commit, "licence": source.licence}
    expected = {**origin, **contents}
    if folder.exists() and not record.exists():
        raise DataError(
            f"{folder}: expected no such folder or one with SOURCE.json, which this script writes; "
            f"move it away or choose another --out"
        )
    if record.exists() and record.read_text(encoding="utf-8") == _json(expected):
        return False

    # GitHub builds this archive on demand, and can compress it differently each time. So the git id of each file in it
    # is checked instead of a checksum of the archive.
    archive = archives / f"{source.repository.split('/')[1]}-{source.commit}.zip"
    fetch(f"{server}/{source.repository}/archive/{source.commit}.zip", archive, None)
    files = read(archive, source, contents["files"])

    with atomic(folder) as unfinished:
        result = {**origin, "files": contents["files"], **write(unfinished, source, files)}
        (unfinished / "SOURCE.json").write_text(_json(result), encoding="utf-8")
    for key in ("images", "objects", "pixels"):
        if result[key] != contents[key]:
            log.warning(
                "%s: the %s differ from those that the shipped model was trained on: expected %s, found %s; "
                "install the versions in constraints.txt to get the same",
                *(name, key, contents[key], result[key]),
            )
    return True


def _json(record: Mapping[str, Any]) -> str:
    return json.dumps(record, indent=1, sort_keys=True) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare the sets named on the command line, by default all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"default: all of {', '.join(SOURCES)}")
    parser.add_argument("--out", type=Path, default=Path("data/permissive"), help="folder of all sets (%(default)s)")
    parser.add_argument("--archives", type=Path, help="folder of the downloaded archives (OUT/.archives)")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.sets) - set(SOURCES)):
        parser.error(f"unknown SET {', '.join(unknown)}; choose from {', '.join(SOURCES)}")
    logging.basicConfig(format="%(message)s")
    contents = json.loads(CONTENTS.read_text(encoding="utf-8"))
    archives = options.archives or options.out / ".archives"
    for name in options.sets or SOURCES:
        try:
            is_new = prepare(name, SOURCES[name], contents[name], options.out, archives)
        except DataError as error:
            raise SystemExit(f"Error: {name}: {error}") from error
        record = json.loads((options.out / name / "SOURCE.json").read_text(encoding="utf-8"))
        counts = f"{record['images']} images, {record['objects']} objects"
        print(f"{options.out / name}: {'written' if is_new else 'already there'} ({counts})")


if __name__ == "__main__":
    main()
