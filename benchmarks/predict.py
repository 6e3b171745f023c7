"""Measure the segmentation of a user's own images: `python -m benchmarks.predict CASE FOLDER`.

    large    an image of 4 gigapixels with 10,000 boxes
    many     2,000 images of 256 × 256 pixels with 5 boxes each
    dense    500 images of 1,024 × 1,024 pixels with 200 boxes each
    image    one image of 1,024 × 1,024 pixels with 100 boxes on `vit_b`, beside segment_anything; FOLDER may be absent

All but `image` write their images to FOLDER and run `loosebox predict` on them, with `micro`.
"""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import imageio.v3 as iio
import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray
from segment_anything import SamPredictor
from tqdm import tqdm

from benchmarks.decode import IN_WINDOW, WINDOW, Boxes, Masks, comparison, predict_loop, predict_torch
from benchmarks.measuring import in_process, machine
from benchmarks.networks import PRECISIONS, evenly_chosen, generated_cells, random_checkpoint, random_sam
from pipeline_lib import load_segmenter
from pipeline_lib.api import LoadedSegmenter
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.runtime.malloc import keep_freed_memory

SEED = 5  # of the generated image
COMMAND = """
import sys, time
from pipeline_lib.cli import main
main(standalone_mode=False)
print(time.process_time())
"""
BLOCK, BLOCKS = 1024, 62  # of the large image: side of a block, pixels; blocks along a side
PICTURES = 20  # different images among many


def segment(folder: Path, images: str, rows: pd.DataFrame) -> None:
    """Write boxes to `folder/boxes.csv`, and run `loosebox predict` on them."""
    rows.to_csv(folder / "boxes.csv", index=False)
    cost = in_process(
        COMMAND, "predict", f"{folder}/{images}", f"{folder}/boxes.csv", "--backbone", "micro", "--out", f"{folder}/out"
    )
    print(f"{len(rows)} boxes: {cost.seconds:.0f} CPU s, largest resident memory {cost.peak:.0f} MB")


def large(folder: Path) -> None:
    """Segment 10,000 boxes in an image of 4 gigapixels."""
    block, boxes = generated_cells(BLOCK, SEED)
    shape = (BLOCKS * BLOCK, BLOCKS * BLOCK)
    image = zarr.create_array(folder / "large.zarr", shape=shape, chunks=(BLOCK, BLOCK), dtype="uint8", overwrite=True)
    for row in tqdm(range(BLOCKS), "large.zarr"):
        image[row * BLOCK : (row + 1) * BLOCK] = np.tile(block, (1, BLOCKS))
    places = np.random.default_rng(0).choice(BLOCKS**2 * len(boxes), 10_000, replace=False)
    blocks, numbers = np.divmod(places, len(boxes))
    shifts = np.stack([blocks % BLOCKS, blocks // BLOCKS] * 2, axis=1) * BLOCK
    segment(folder, "large.zarr", pd.DataFrame(boxes[numbers] + shifts, columns=XYXY))


def many(folder: Path, side: int, images: int, each: int) -> None:
    """Segment many images of `side` × `side` pixels with `each` boxes."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    pictures = [generated_cells(side, seed) for seed in range(PICTURES)]
    for number in tqdm(range(images), "images"):
        image, boxes = pictures[number % PICTURES]
        iio.imwrite(folder / f"images/{number:04}.png", image)
        rows += [(f"{number:04}.png", *box) for box in boxes[:each]]
    segment(folder, "images", pd.DataFrame(rows, columns=["image", *XYXY]))


def masks_alone(segmenter: LoadedSegmenter, pixels: NDArray[np.uint8], boxes: Boxes) -> Masks:
    """Return the masks without the table."""
    return segmenter(pixels, boxes)[0]


def image(rounds: int) -> str:
    """Compare ways from one image and 100 boxes to masks, the image's encoding included."""
    keep_freed_memory()  # as the stages do; it makes all ways faster
    pixels, cells = generated_cells(1024, SEED)
    boxes, colour = evenly_chosen(cells, 100), np.stack([pixels] * 3, axis=-1)
    predictor = SamPredictor(random_sam("vit_b"))

    def segment_anything(way: Callable[[SamPredictor, Boxes], Masks]) -> Masks:
        predictor.set_image(colour)
        return way(predictor, boxes)

    ways: dict[str, Callable[[], Masks]] = {
        "`SamPredictor.predict`, box by box": partial(segment_anything, predict_loop),
        "`SamPredictor.predict_torch`": partial(segment_anything, predict_torch),
    }
    with TemporaryDirectory() as folder:
        checkpoint = random_checkpoint("vit_b", folder)
        for precision, window in product(PRECISIONS, (None, WINDOW)):
            refine = {"max_iterations": 0, "mask_extent": window}
            segmenter = load_segmenter(None, "vit_b", checkpoint, precision=precision, refine=refine)
            name = f"`load_segmenter`, {precision}{IN_WINDOW if window else ''}"
            ways[name] = partial(masks_alone, segmenter, pixels, boxes)
    return comparison(ways, boxes, rounds)


def main() -> None:
    """Measure, and print the figures."""
    cases: dict[str, Callable[[Path], None]] = {
        "large": large,
        "many": partial(many, side=256, images=2000, each=5),
        "dense": partial(many, side=1024, images=500, each=200),
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=[*cases, "image"])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("benchmark"))
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of `image`")
    arguments = parser.parse_args()
    if arguments.case == "image":
        print(machine(arguments.rounds), image(arguments.rounds), sep="\n\n")
    else:
        print(machine(1))
        arguments.folder.mkdir(parents=True, exist_ok=True)
        cases[arguments.case](arguments.folder)


if __name__ == "__main__":
    main()
