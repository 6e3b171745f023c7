"""Generate images with loose boxes to try prediction. Their objects are known, and some boxes are bad on purpose."""

import csv
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import tifffile
from numpy.random import Generator

from pipeline_lib.data.boxes import XYXY, clip, deviate, object_boxes
from pipeline_lib.data.synthetic import Look, generate_slice
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.boxes import Deviation, Kind

SIZES = [(300, 420), (256, 256), (512, 380)]  # (height, width) of the images, pixels
OBJECTS = 20  # number of boxes in an image
SMALLEST = 200  # pixels: smallest area of an object with a box
LOOSE = 40  # deviation of loose boxes, per cent
SEED = 31
COLUMNS = ["image", "slice", *XYXY, "class", "score", "name"]
TRAPS = {  # bad boxes: none of them must become a mask
    "inverted in x": ("a.png", 0, 90, 20, 40, 60),
    "inverted in y": ("a.png", 0, 20, 90, 60, 40),
    "no width": ("a.png", 0, 30, 20, 30, 60),
    "no height": ("a.png", 0, 20, 50, 60, 50),
    "not a number": ("a.png", 0, "nan", 20, 60, 60),
    "infinite": ("a.png", 0, 20, 20, "inf", 60),
    "a word": ("a.png", 0, 20, "twenty", 60, 60),
    "no number": ("a.png", 0, 20, 20, 60, ""),
    "right of the image": ("a.png", 0, 500, 20, 540, 60),
    "above the image": ("a.png", 0, 20, -90, 60, -30),
    "no such image": ("d.png", 0, 20, 20, 60, 60),
    "no such slice": ("a.png", 7, 20, 20, 60, 60),
}


def write_example_set(folder: Path) -> None:
    """Write a folder with `images/` (PNG), `boxes.csv` and `truth/` (label images, TIFF).

    The `name` of a box is the number of its object. In each image, a third of the boxes is too large or too small by
    40 %, a third is shifted by 40 %, and a third is exact. The last good box of the file is there twice, and then come
    the bad boxes of `TRAPS`.
    """
    rng = np.random.default_rng(SEED)
    look = Look.draw(rng)
    with atomic(folder) as unfinished:
        for part in "images", "truth":
            (unfinished / part).mkdir(parents=True)
        rows: list[tuple[Any, ...]] = []
        for letter, size in zip("abc", SIZES, strict=True):
            scene = generate_slice(rng, size, look)
            iio.imwrite(unfinished / "images" / f"{letter}.png", scene.image)
            tifffile.imwrite(unfinished / "truth" / f"{letter}.tif", scene.cells.astype(np.uint16))
            rows += [(f"{letter}.png", 0, *box, "cell", 0.9, number) for number, box in _boxes(rng, scene.cells, size)]
        rows += [rows[-1], *((*trap, "cell", 0.5, reason) for reason, trap in TRAPS.items())]
        with (unfinished / "boxes.csv").open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])


def _boxes(rng: Generator, cells: Any, size: tuple[int, int]) -> list[tuple[int, tuple[float, ...]]]:
    """Return the numbers of randomly chosen objects, and a box for each."""
    large = [(number, box) for number, *box, area in object_boxes(cells) if area >= SMALLEST]
    objects = [large[index] for index in rng.permutation(len(large))[:OBJECTS]]
    exact, uniform = np.array([box for _, box in objects]), rng.random((len(objects), 4))
    kinds: list[Kind] = ["scale", "translate"]
    loose = [deviate(exact, LOOSE, uniform, Deviation(kind=kind, direction="both")) for kind in kinds]
    boxes = clip(np.choose(np.arange(len(objects))[:, None] % 3, [*loose, exact.astype(np.float32)]), size)
    return [(number, tuple(box.tolist())) for (number, _), box in zip(objects, boxes, strict=True)]
