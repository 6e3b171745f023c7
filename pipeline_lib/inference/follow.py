"""An object through the slices of a volume: its mask in one slice prompts the next one.

Objects are followed from the slices of their boxes, first to later slices and then to earlier ones. All objects that
have come to a slice are segmented together, so that a window is encoded once for all objects in it. What must be
remembered is the last mask of each object, whatever the number of slices.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.masks import Mask, bounding_box
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.tracks import PlacedMask, Row, output_rows, placed_mask, window_of
from pipeline_lib.data.windows import WindowConfig, with_windows
from pipeline_lib.inference.next_box import next_box
from pipeline_lib.inference.segmenter import Segmenter, batches_of_windows
from pipeline_lib.settings.segment import TrackConfig

# From a slice, a direction and the last row of each object that has come there, to a row for each of them.
SegmentSlice = Callable[[int, int, Mapping[int, Row]], Sequence[Row]]
BINS, REACH = 24, 3.0  # of a histogram of greys, and how many deviations from the median it reaches
DEVIATION = 1.4826  # standard deviation of a normal distribution as a multiple of its median absolute deviation
RIM = 2  # pixels inside an outline that do not count
LEAST = 1e-3  # predicted IoU that others are compared with: a network can predict 0

BoxKey = tuple[int, int]  # of a box: object and slice
Part = Callable[[ImageFile, int, slice, slice], NDArray[np.uint8]]  # pixels of a part of a slice, YX


def follow(starts: Sequence[Row], depth: int, segment_slice: SegmentSlice) -> None:
    """Segment objects slice by slice, first to later slices and then to earlier ones.

    Between two boxes of an object, the ways from both end at the slice in the middle. If one of them ends before, the
    other one goes on until they meet. For ways to later slices this needs a third pass, once the second one has shown
    which ways to earlier slices ended before.

    Args:
        starts: Rows of `TRACKS` for the slices of the boxes.
        depth: Number of slices.
        segment_slice: Makes the rows of the next slice. An object with a row that has `ended` is not followed further.
    """
    boxes = sorted((row["object"], row["start"]) for row in starts)
    pairs = [(low, high) for low, high in pairwise(boxes) if low[0] == high[0]]
    ends = dict.fromkeys(boxes, depth - 1) | {low: (low[1] + high[1]) // 2 for low, high in pairs}
    up = _way(starts, 1, ends, segment_slice)
    down_ends = dict.fromkeys(boxes, 0) | {high: max(_slice(up, low), low[1] + 1) for low, high in pairs}
    down = _way(starts, -1, down_ends, segment_slice)
    rest = {low: min(_slice(down, high), high[1] - 1) for low, high in pairs}
    unfinished = [up[low] for low in rest if _slice(up, low) == ends[low] < rest[low]]
    _way(unfinished, 1, rest, segment_slice)


def _way(
    starts: Sequence[Row], direction: int, ends: Mapping[BoxKey, int], segment_slice: SegmentSlice
) -> dict[BoxKey, Row]:
    """Follow objects in one direction, each to the slice in `ends` at most, and return the last row of each way."""
    last: dict[BoxKey, Row] = {}
    going: dict[int, Row] = {}
    places = [*(row["slice"] for row in starts), *ends.values()]
    for z in range(min(places, default=0), max(places, default=0) + 1)[::direction]:
        going = {number: row for number, row in going.items() if direction * (ends[number, row["start"]] - z) >= 0}
        if going:
            rows = segment_slice(z, direction, going)
            going = {row["object"]: row for row in rows if row["ended"] is None}
        going |= {row["object"]: row for row in starts if row["slice"] == z and row["ended"] is None}
        last |= {(number, row["start"]): row for number, row in going.items()}
    return last


def _slice(last: Mapping[BoxKey, Row], box: BoxKey) -> int:
    """Return the last slice of the way from a box; that of the box if there is no way."""
    return int(last[box]["slice"]) if box in last else box[1]


@dataclass(frozen=True)
class Follower:
    """A model that segments the objects of a volume in the next slice."""

    segmenter: Segmenter
    image: ImageFile
    part: Part
    windows: WindowConfig
    batch: int  # windows in a call of the encoder
    config: TrackConfig
    starts: Sequence[Row]  # rows of `TRACKS` for the slices of the boxes

    def segment_slice(self, z: int, direction: int, last: Mapping[int, Row]) -> list[Row]:
        """Segment objects in a slice from their masks in the slice before, as `SegmentSlice`."""
        before = {number: placed_mask(row, self.image) for number, row in last.items()}
        boxes = np.stack(
            [next_box(mask.mask, only_largest=True) + np.tile([mask.x, mask.y], 2) for mask in before.values()]
        )
        table = pd.DataFrame(boxes, pd.Index(before, name="id"), XYXY).assign(image=self.image.name, slice=z, reason="")
        given = Prompts((self.image,), *with_windows(table, [self.image], self.windows))
        rows: dict[int, Row] = {}
        for windows in batches_of_windows(range(len(given.windows)), given, self.batch):
            pixels = [self.part(*given.place(number)) for number in windows]
            places = {given.windows[number][2:]: each for number, each in zip(windows, pixels, strict=True)}
            for number, row in output_rows(given, self._segmenter.run(given, windows, pixels).rows).items():
                row |= {"object": number, "start": last[number]["start"], "direction": direction}
                rows[number] = self._compared(row, last[number], before[number], places[window_of(row)])
        return [rows[number] for number in last]

    def _compared(self, row: Row, last: Row, before: PlacedMask, pixels: NDArray[np.uint8]) -> Row:
        """Return a row with how its mask compares with the masks from the slice of its box to the slice before."""
        mask, slices = placed_mask(row, self.image), abs(row["slice"] - row["start"])
        greys = grey_distribution(pixels, mask.mask)
        known = self._greys[row["object"], row["start"]] if slices == 1 else np.array(last["mean_greys"])
        compared = row | {
            "overlap": mask.overlap(before),
            "confidence": row["predicted_iou"] / max(last["mean_iou"], LEAST),
            "likeness": likeness(greys, known),
            "mean_iou": last["mean_iou"] + (row["predicted_iou"] - last["mean_iou"]) / (slices + 1),
            "mean_greys": (known + (greys - known) / (slices + 1)).tolist(),
        }
        return compared | {"ended": ending(not mask.mask.any(), compared, self.config)}

    @cached_property
    def _segmenter(self) -> Segmenter:
        """The model with the number of iterations that slices without a box have."""
        refine = self.segmenter.refine.model_copy(update={"max_iterations": self.config.max_iterations})
        return replace(self.segmenter, refine=refine)

    @cached_property
    def _greys(self) -> dict[BoxKey, NDArray[np.float64]]:
        """The greys inside the mask in the slice of each box."""
        _, height, width = self.image.shape
        known = {}
        for row in self.starts:
            y, x, side = window_of(row)
            part = slice(y, min(y + side, height)), slice(x, min(x + side, width))
            pixels = self.part(self.image, row["slice"], *part)
            known[row["object"], row["start"]] = grey_distribution(pixels, placed_mask(row, self.image).mask)
        return known


def grey_distribution(pixels: NDArray[np.uint8], mask: Mask) -> NDArray[np.float64]:
    """Return the cumulative distribution (BINS,) of the greys inside a mask (h, w), or zeros if the mask is empty.

    Greys are counted from the median of `pixels` (h, w) in median absolute deviations, so that slices may differ in
    brightness and contrast. Dark neighbours that leave the window change these less than mean and standard deviation.
    The rim of the mask does not count, because an outline is never exact.
    """
    if not mask.any():
        return np.zeros(BINS)
    x0, y0, x1, y1 = bounding_box(mask).astype(int)
    whole = mask[y0:y1, x0:x1]
    inside = binary_erosion(whole, iterations=RIM)
    greys = pixels[y0:y1, x0:x1][inside if inside.any() else whole]
    counts, levels = np.bincount(pixels.ravel(), minlength=256), np.arange(256.0)
    centre = _median(levels, counts)
    spread = DEVIATION * _median(np.abs(levels - centre), counts)
    deviations = (greys - centre) / max(spread, 1.0)
    counts, _ = np.histogram(deviations.clip(-REACH, REACH), BINS, (-REACH, REACH))
    return np.asarray(counts.cumsum() / counts.sum())


def _median(values: NDArray[np.float64], counts: NDArray[np.int64]) -> float:
    """Return the lower median of values that occur so many times: much quicker than a median of all pixels."""
    order = np.argsort(values)
    place = np.searchsorted(counts[order].cumsum(), counts.sum() / 2)
    return float(values[order][place])


def likeness(greys: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return how alike two distributions of `grey_distribution` are: 1 less their Kolmogorov-Smirnov distance."""
    return 1 - float(np.abs(greys - others).max())


def ending(empty: bool, row: Row, config: TrackConfig) -> str | None:
    """Return why an object ends before a slice, from its row there, as "likeness 0.302 < 0.45", or None if not."""
    if empty:
        return "empty"
    least = {"overlap": config.overlap, "confidence": config.confidence, "likeness": config.likeness}
    below = (f"{name} {row[name]:.3f} < {limit:g}" for name, limit in least.items() if row[name] < limit)
    return next(below, None)
