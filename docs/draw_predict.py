"""Draw the picture of README: the boxes of a generated image, the masks of `predict`, and the true masks.

make predict
python docs/draw_predict.py docs/predict-strip.png
"""

import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from scipy.ndimage import binary_erosion

EXAMPLE, RESULTS, NAME = Path("results/example"), Path("results/collect/example"), "a"
BOX, MASK, TRUTH = (255, 150, 40), (70, 140, 230), (230, 190, 40)
GAP, COLOURS = 10, 64


def paint(picture: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> None:
    """Colour a mask (h, w) with its outline in an RGB picture (h, w, 3), in place."""
    picture[mask] = 0.65 * picture[mask] + 0.35 * np.array(colour)
    picture[mask & ~binary_erosion(mask)] = colour


def strip() -> Image.Image:
    """Return three panels of one image: boxes, predicted masks (flagged ones in the colour of boxes) and true masks."""
    image = np.stack([iio.imread(EXAMPLE / f"images/{NAME}.png")] * 3, axis=-1)
    truth = iio.imread(EXAMPLE / f"truth/{NAME}.tif")
    table = pd.read_csv(RESULTS / "objects.csv", index_col="id")
    coco = COCO(RESULTS / "coco.json")
    file = f"{NAME}.png"
    masks = {
        each["id"]: coco.annToMask(each).astype(bool)
        for each in coco.dataset["annotations"]
        if table.loc[each["id"], "image"] == file
    }

    boxes = Image.fromarray(image)
    drawing, predicted, true = ImageDraw.Draw(boxes), image.copy(), image.copy()
    for number, mask in sorted(masks.items(), key=lambda item: -int(item[1].sum())):
        row = table.loc[number]
        left, top, right, bottom = row[["given_x0", "given_y0", "given_x1", "given_y1"]]
        drawing.rectangle((left, top, right - 1, bottom - 1), outline=BOX, width=2)
        paint(predicted, mask, MASK if pd.isna(row["flags"]) else BOX)
        paint(true, truth == int(row["name"]), TRUTH)

    height, width = truth.shape
    panels = Image.new("RGB", (3 * width + 2 * GAP, height), "white")
    for index, panel in enumerate((boxes, Image.fromarray(predicted), Image.fromarray(true))):
        panels.paste(panel, (index * (width + GAP), 0))
    return panels


if __name__ == "__main__":
    strip().quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(sys.argv[1], optimize=True)
