"""The README's picture: `python docs/picture.py RESULTS DATASET LEVEL PICTURE.png`, after a run of the workflow.

Of the proposed model's shrunken boxes it takes the object that gains most from iteration, as the paper's figure 3 does.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from pipeline_lib.masks import from_rle, iou
from pipeline_lib.store import Store

BLUE, ORANGE = (0.0, 0.45, 0.7), (0.9, 0.6, 0.0)  # colour-blind-safe
MARGIN = 14  # pixels around the object
LARGE = 400  # pixels: smaller objects are hard to see


def best_gain(results: Path, dataset: str, level: str, side: int) -> pd.Series:
    """The row of the object that iteration improves most, among large ones inside their image with too small a box."""
    scores = pd.read_csv(results / f"score/{dataset}/proposed/0/{level}.csv")
    passes = pd.read_parquet(results / f"refine/{dataset}/proposed/0/{level}.parquet").query("`pass` == 0")
    exact = pd.read_csv(results / f"boxes/{dataset}.csv")
    table = scores.merge(passes, on=["image", "object"]).merge(exact, on=["image", "object"], suffixes=("", "_exact"))
    within = (table.x0_exact > MARGIN) & (table.y0_exact > MARGIN)
    within &= (table.x1_exact < side - MARGIN) & (table.y1_exact < side - MARGIN)
    table = table[within & (table.area >= LARGE)]
    small = table[(table.x1 - table.x0) < 0.9 * (table.x1_exact - table.x0_exact)]
    return small.loc[(small.iou_iterated - small.iou).idxmax()]


def show(axes: Axes, image: NDArray[np.uint8], mask: NDArray[np.bool_], title: str) -> None:
    """An image with a mask laid over it in blue."""
    axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    axes.imshow(np.dstack([np.broadcast_to((*BLUE, 0.0), (*mask.shape, 4))[..., :3], 0.5 * mask]))
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()


def main(results: Path, dataset: str, level: str, picture: Path) -> None:
    """Draw the object's passes side by side, each with its box, and the truth."""
    store = Store.open(results / f"convert/{dataset}.zarr")
    row = best_gain(results, dataset, level, min(store.tile))
    image, truth = store.image(int(row["image"])), store.objects(int(row["image"])) == row["object"]
    passes = pd.read_parquet(results / f"refine/{dataset}/proposed/0/{level}.parquet")
    passes = passes[(passes["image"] == row["image"]) & (passes["object"] == row["object"])].sort_values("pass")
    figure, panels = plt.subplots(1, len(passes) + 1, figsize=(2.5 * (len(passes) + 1), 2.9), layout="constrained")
    for axes, each in zip(panels, passes.itertuples(), strict=False):
        mask = from_rle(each.mask, truth.shape)
        name = "box too small" if each.Index == passes.index[0] else "box of the last mask"
        show(axes, image, mask, f"{name}\nIoU {iou(mask, truth):.3f}")
        axes.add_patch(Rectangle((each.x0, each.y0), each.x1 - each.x0, each.y1 - each.y0, fill=False, ec=ORANGE, lw=2))
    show(panels[-1], image, truth, "truth\n")
    ys, xs = np.nonzero(truth)
    for axes in panels:
        axes.set_xlim(xs.min() - MARGIN, xs.max() + MARGIN)
        axes.set_ylim(ys.max() + MARGIN, ys.min() - MARGIN)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], Path(sys.argv[4]))
