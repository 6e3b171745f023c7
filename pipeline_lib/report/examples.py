"""Show objects as in the paper's figure 3: every prediction with its box, mask and IoU, beside the true mask."""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.dataset import Store
from pipeline_lib.data.masks import Mask, bounding_box, from_rle, iou
from pipeline_lib.evaluation.scores import KEYS

MARGIN = 10  # pixels around masks and boxes
BROWSED = 24  # objects of a data set in the grid
BUDGET = 1_000_000  # largest size of a data set's grid, bytes
PREDICTED, TRUE = (64, 150, 255), (255, 196, 0)  # RGB of masks
PROMPT = (255, 157, 46)  # RGB of boxes
OPACITY = 120  # of masks, of 255
STRIP_HEIGHT, LABEL_HEIGHT, LABEL_WIDTH, GAP = 200, 48, 80, 12  # approximate sizes in a picture of `strip`, pixels


@dataclass(frozen=True, eq=False)
class Panel:
    """A prediction, or the true mask, on the crop of an object."""

    title: str
    iou: str
    mask: Mask  # (h, w) of the crop
    colour: tuple[int, int, int]
    box: tuple[float, float, float, float] | None  # x, y, width, height in pixels of the crop
    is_kept: bool = False  # whether this prediction is the output of the iteration

    @cached_property
    def png(self) -> str:
        """The mask as a PNG with a transparent background, in a data URI. One bit a pixel halves the size of RGBA."""
        image = Image.fromarray(self.mask.astype(np.uint8))
        image.putpalette([0, 0, 0, *self.colour])
        return data_uri(image, bits=1, transparency=bytes([0, OPACITY]))

    def reduced(self, factor: int) -> "Panel":
        """Return the same panel at 1 / `factor` of its resolution."""
        x, y, width, height = self.box or (0, 0, 0, 0)
        box = (x / factor, y / factor, width / factor, height / factor) if self.box else None
        return replace(self, mask=self.mask[::factor, ::factor], box=box)


@dataclass(frozen=True, eq=False)
class Example:
    """An object: the crop of its tile, and the predictions for it."""

    name: str  # unique in the page
    heading: str
    says: str  # description
    crop: NDArray[np.uint8]  # YX
    panels: list[Panel]
    place: str = ""  # id of the object in a picture of the page, if it is in one

    @cached_property
    def png(self) -> str:
        """The crop as a PNG in a data URI."""
        return data_uri(Image.fromarray(self.crop))

    @property
    def bytes(self) -> int:
        """Approximate size in the page, bytes."""
        return len(self.png) + sum(len(panel.png) for panel in self.panels)

    def reduced(self, side: int) -> "Example":
        """Return the same example with pictures of about `side` pixels along the longer side, if they are larger."""
        factor = round(max(self.crop.shape) / side)
        if factor < 2:
            return self
        crop = np.asarray(Image.fromarray(self.crop).reduce(factor))
        return replace(self, crop=crop, panels=[panel.reduced(factor) for panel in self.panels])


def by_gain(scores: pd.DataFrame) -> pd.DataFrame:
    """Return a table of the stage score with the column gain (in IoU by iteration), sorted by it."""
    return scores.assign(gain=scores["iou_iterated"] - scores["iou"]).sort_values(["gain", *KEYS])


def telling(scores: pd.DataFrame) -> dict[str, pd.Series]:
    """Return the objects with the largest gain, the largest loss and the median gain by iteration.

    If there are more objects, also return the one among them with the most iterations.
    """
    ordered = by_gain(scores)
    places = {"best gain": -1, "worst loss": 0, "median": len(ordered) // 2}
    others = ordered.drop(index=[ordered.index[place] for place in places.values()])
    rows = {reason: ordered.iloc[place] for reason, place in places.items()}
    if len(others):
        rows["most iterations"] = others.sort_values(["iterations", *KEYS]).iloc[-1]
    return rows


def browsed(scores: pd.DataFrame) -> Iterator[pd.Series]:
    """Return objects that are evenly spaced from the largest loss to the largest gain."""
    ordered = by_gain(scores)
    places = np.unique(np.linspace(0, len(ordered) - 1, min(BROWSED, len(ordered))).round().astype(int))
    return (ordered.iloc[place] for place in places)


def example(name: str, heading: str, row: pd.Series, history: pd.DataFrame, store: Store) -> Example:
    """Return an object with all of its predictions.

    Args:
        name: name that is unique in the page.
        heading: reason to show the object.
        row: row of `by_gain`.
        history: table of the stage refine.
        store: store of the data set.
    """
    tile, number = int(row["tile"]), int(row["object"])
    iterations = history[(history["tile"] == tile) & (history["object"] == number)].sort_values("iteration")
    truth = store.objects(tile) == number
    masks = [from_rle(counts, truth.shape) for counts in iterations["mask"]]
    y, x = crop_window(np.logical_or.reduce([truth, *masks]), iterations[XYXY].to_numpy(np.float64))
    panels = predictions(iterations, masks, [float(iou(mask, truth)) for mask in masks], y, x)
    origin = store.slices[store.origin(tile)[0]]
    return Example(
        name,
        heading,
        f"tile {tile} (slice {origin.index}), object {number}, {int(row['area'])} pixels, "
        f"IoU {row['iou']:.3f} → {row['iou_iterated']:.3f}",
        store.pixels(tile)[y, x],
        [*panels, Panel("truth", "", truth[y, x], TRUE, None)],
    )


def predictions(history: pd.DataFrame, masks: Sequence[Mask], ious: Sequence[float], y: slice, x: slice) -> list[Panel]:
    """Return a panel for each prediction of an object.

    Args:
        history: rows of the object in the table of the stage refine or segment, in the order of iterations.
        masks: their masks (h, w) of the tile.
        ious: IoU to show for each prediction.
        y: rows of the crop.
        x: columns of the crop.
    """
    boxes = history[XYXY].to_numpy(np.float64)
    return [
        Panel(
            title=f"iteration {index}" if index else "given box",
            iou=f"{value:.3f}".removeprefix("0"),
            mask=mask[y, x].copy(),  # a view would keep the whole mask in memory
            colour=PREDICTED,
            box=(box[0] - x.start, box[1] - y.start, box[2] - box[0], box[3] - box[1]),
            is_kept=is_kept,
        )
        for index, (mask, box, value, is_kept) in enumerate(zip(masks, boxes, ious, history["output"], strict=True))
    ]


def crop_window(masks: Mask, boxes: NDArray[np.float64]) -> tuple[slice, slice]:
    """Return the rows and columns (slices) of a crop that contains masks and boxes with a margin.

    Args:
        masks: union (h, w) of the masks of a tile.
        boxes: (N, 4), XYXY in pixels of the tile.
    """
    extents = np.concatenate([boxes, bounding_box(masks)[None]]) if masks.any() else boxes
    low = np.floor(extents[:, :2].min(axis=0)).astype(int) - MARGIN
    high = np.ceil(extents[:, 2:].max(axis=0)).astype(int) + MARGIN
    (x0, y0), (x1, y1) = np.maximum(low, 0), np.minimum(high, masks.shape[::-1])
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


def strip(sample: Example) -> Image.Image:
    """Return the predictions side by side as one picture, enlarged by a whole number."""
    scale = max(1, round(STRIP_HEIGHT / sample.crop.shape[0]))
    height, width = (scale * side for side in sample.crop.shape)
    step = max(width, LABEL_WIDTH) + GAP
    picture = Image.new("RGB", (step * len(sample.panels) + GAP, height + LABEL_HEIGHT), "white")
    for index, panel in enumerate(sample.panels):
        tint = np.where(panel.mask[..., None], OPACITY / 255, 0)
        pixels = sample.crop[..., None] * (1 - tint) + np.array(panel.colour) * tint
        left = GAP + index * step + (step - GAP - width) // 2
        enlarged = Image.fromarray(pixels.round().astype(np.uint8)).resize((width, height), Image.Resampling.NEAREST)
        pen = ImageDraw.Draw(enlarged)
        if panel.box:
            x, y, w, h = (scale * side for side in panel.box)
            pen.rectangle((x, y, x + w - 1, y + h - 1), outline=PROMPT, width=2)
        picture.paste(enlarged, (left, 0))
        below = (left + width // 2, height + 6)
        words = f"{panel.title}\nIoU {panel.iou}" if panel.iou else panel.title
        ImageDraw.Draw(picture).text(below, words, "black", ImageFont.load_default(15), anchor="ma", align="center")
    return picture


def data_uri(image: Image.Image, form: Literal["png", "jpeg"] = "png", **settings: int | bytes) -> str:
    """Return an image as a data URI, which a page can contain. `settings` are those of Pillow's `save`."""
    file = io.BytesIO()
    image.save(file, form, optimize=True, **settings)
    return f"data:image/{form};base64," + base64.b64encode(file.getvalue()).decode("ascii")
