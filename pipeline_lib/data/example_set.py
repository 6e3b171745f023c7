"""A generated set of images and loose boxes with known truth, and with traps among the boxes: to try prediction on."""

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

SIZES = [(300, 420), (256, 256), (512, 380)]  # of the images, pixels
OBJECTS = 20  # boxes of an image
SMALLEST = 200  # pixels of an object that has a box
LOOSE = 40  # per cent
SEED = 31
COLUMNS = ["image", "slice", *XYXY, "class", "score", "name"]
TRAPS = {  # none of these may become a mask
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
    """Write `images/` (PNG), `boxes.csv` and `truth/` (TIFF; an object's number is the `name` of its box).

    A third of an image's boxes is too large or too small by 40 %, a third shifted by 40 %, a third exact; the last of
    the file's good boxes is there twice, and after it come `TRAPS`.
    """
    rng = np.random.default_rng(SEED)
    look = Look.draw(rng)
    with atomic(folder) as unfinished:
        for part in "images", "truth":
            (unfinished / part).mkdir(parents=True)
        rows: list[tuple[Any, ...]] = []
        for letter, size in zip("abc", SIZES, strict=True):
            drawn = generate_slice(rng, size, look)
            iio.imwrite(unfinished / "images" / f"{letter}.png", drawn.image)
            tifffile.imwrite(unfinished / "truth" / f"{letter}.tif", drawn.cells.astype(np.uint16))
            rows += [(f"{letter}.png", 0, *box, "cell", 0.9, number) for number, box in _boxes(rng, drawn.cells, size)]
        rows += [rows[-1], *((*trap, "cell", 0.5, why) for why, trap in TRAPS.items())]
        with (unfinished / "boxes.csv").open("w", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *rows])


def _boxes(rng: Generator, cells: Any, size: tuple[int, int]) -> list[tuple[int, tuple[float, ...]]]:
    """Numbers of some objects, and a box of each."""
    objects = [(number, box) for number, *box, area in object_boxes(cells) if area >= SMALLEST]
    chosen = [objects[index] for index in rng.permutation(len(objects))[:OBJECTS]]
    exact, uniform = np.array([box for _, box in chosen]), rng.random((len(chosen), 4))
    kinds: list[Kind] = ["scale", "translate"]
    loose = [deviate(exact, LOOSE, uniform, Deviation(kind=kind, direction="both")) for kind in kinds]
    boxes = clip(np.choose(np.arange(len(chosen))[:, None] % 3, [*loose, exact.astype(np.float32)]), size)
    return [(number, tuple(box.tolist())) for (number, _), box in zip(chosen, boxes, strict=True)]
