"""Follow objects through the slices of a volume: the mask in one slice prompts the next slice.

Objects are followed from the slices of their boxes, first to later slices and then to earlier ones. All objects in a
slice are segmented together, so that a window is encoded once for all objects in it. Memory holds only the last mask of
each object, so it does not grow with the number of slices.
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

# Takes a slice, a direction (1 or -1) and the last row of each object to segment there; returns a row for each object.
SegmentSlice = Callable[[int, int, Mapping[int, Row]], Sequence[Row]]
BINS, REACH = 24, 3.0  # bins of a histogram of greys, and its range in deviations on either side of the median
DEVIATION = 1.4826  # standard deviation of a normal distribution as a multiple of its median absolute deviation
RIM = 2  # pixels inside an outline that are left out, because outlines are never exact
LEAST = 1e-3  # smallest predicted IoU to divide by: a network can predict 0

BoxKey = tuple[int, int]  # a box: object and slice
Part = Callable[[ImageFile, int, slice, slice], NDArray[np.uint8]]  # reads pixels of a part of a slice, YX


def follow(starts: Sequence[Row], depth: int, segment_slice: SegmentSlice) -> None:
    """Segment objects slice by slice, first to later slices and then to earlier ones.

    The ways from two boxes of an object end at the slice midway between them. If one way ends earlier, the other one
    goes on until they meet. For ways to later slices this needs a third pass: only the second pass shows which ways to
    earlier slices ended early.

    Args:
        starts: Rows of `TRACKS` for the slices of the boxes.
        depth: Number of slices.
        segment_slice: Returns the rows of the next slice. An object whose row has `ended` is not followed further.
    """
    # Each way ends at the border of the volume, or midway to the object's next box.
    boxes = sorted((row["object"], row["start"]) for row in starts)
    pairs = [(low, high) for low, high in pairwise(boxes) if low[0] == high[0]]
    ends = dict.fromkeys(boxes, depth - 1) | {low: (low[1] + high[1]) // 2 for low, high in pairs}

    # Pass 1: to later slices, up to the middle.
    up = _follow_way(starts, 1, ends, segment_slice)

    # Pass 2: to earlier slices, down to where pass 1 ended.
    down_ends = dict.fromkeys(boxes, 0) | {high: max(_last_slice(up, low), low[1] + 1) for low, high in pairs}
    down = _follow_way(starts, -1, down_ends, segment_slice)

    # Pass 3: from the middle to later slices, up to where pass 2 ended.
    rest = {low: min(_last_slice(down, high), high[1] - 1) for low, high in pairs}
    unfinished = [up[low] for low in rest if _last_slice(up, low) == ends[low] < rest[low]]
    _follow_way(unfinished, 1, rest, segment_slice)


def _follow_way(
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


def _last_slice(last: Mapping[BoxKey, Row], box: BoxKey) -> int:
    """Return the last slice of the way from a box, or the slice of the box if there is no way."""
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
        """Segment objects in a slice from their masks in the previous slice, as `SegmentSlice`."""
        # The box of each mask is its prompt in this slice.
        previous = {number: placed_mask(row, self.image) for number, row in last.items()}
        boxes = np.stack(
            [next_box(mask.mask, only_largest=True) + np.tile([mask.x, mask.y], 2) for mask in previous.values()]
        )
        table = pd.DataFrame(boxes, pd.Index(previous, name="id"), XYXY)
        table = table.assign(image=self.image.name, slice=z, reason="")
        prompts = Prompts((self.image,), *with_windows(table, [self.image], self.windows))

        # Segment window by window, and compare each mask with those of earlier slices.
        rows: dict[int, Row] = {}
        for windows in batches_of_windows(range(len(prompts.windows)), prompts, self.batch):
            pixels = [self.part(*prompts.place(number)) for number in windows]
            by_window = {prompts.windows[number][2:]: each for number, each in zip(windows, pixels, strict=True)}
            for number, row in output_rows(prompts, self._segmenter.run(prompts, windows, pixels).rows).items():
                row |= {"object": number, "start": last[number]["start"], "direction": direction}
                rows[number] = self._compare(row, last[number], previous[number], by_window[window_of(row)])
        return [rows[number] for number in last]

    def _compare(self, row: Row, last: Row, previous: PlacedMask, pixels: NDArray[np.uint8]) -> Row:
        """Add to a row how its mask compares with the masks from the slice of its box to the previous slice."""
        mask, slices = placed_mask(row, self.image), abs(row["slice"] - row["start"])
        greys = grey_distribution(pixels, mask.mask)
        mean_greys = self._greys[row["object"], row["start"]] if slices == 1 else np.array(last["mean_greys"])
        comparison = {
            "overlap": mask.overlap(previous),
            "confidence": row["predicted_iou"] / max(last["mean_iou"], LEAST),
            "likeness": likeness(greys, mean_greys),
            "mean_iou": last["mean_iou"] + (row["predicted_iou"] - last["mean_iou"]) / (slices + 1),
            "mean_greys": (mean_greys + (greys - mean_greys) / (slices + 1)).tolist(),
        }
        return row | comparison | {"ended": ending(not mask.mask.any(), comparison, self.config)}

    @cached_property
    def _segmenter(self) -> Segmenter:
        """The model with the number of iterations for slices without a box."""
        refine = self.segmenter.refine.model_copy(update={"max_iterations": self.config.max_iterations})
        return replace(self.segmenter, refine=refine)

    @cached_property
    def _greys(self) -> dict[BoxKey, NDArray[np.float64]]:
        """The distribution of the greys inside the mask, in the slice of each box."""
        _, height, width = self.image.shape
        distributions = {}
        for row in self.starts:
            y, x, side = window_of(row)
            part = slice(y, min(y + side, height)), slice(x, min(x + side, width))
            pixels = self.part(self.image, row["slice"], *part)
            mask = placed_mask(row, self.image).mask
            distributions[row["object"], row["start"]] = grey_distribution(pixels, mask)
        return distributions


def grey_distribution(pixels: NDArray[np.uint8], mask: Mask) -> NDArray[np.float64]:
    """Return the cumulative distribution (BINS,) of the greys inside a mask (h, w), or zeros if the mask is empty.

    Greys are measured from the median of `pixels` (h, w), in median absolute deviations, so that slices may differ in
    brightness and contrast. When dark neighbours leave the window, this changes less than mean and standard deviation
    would. The rim of the mask is left out, because an outline is never exact.
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
    """Return the lower median of values that occur `counts` times. This is faster than a median over all pixels."""
    order = np.argsort(values)
    place = np.searchsorted(counts[order].cumsum(), counts.sum() / 2)
    return float(values[order][place])


def likeness(greys: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the similarity of two distributions (BINS,): 1 minus their Kolmogorov-Smirnov distance."""
    return 1 - float(np.abs(greys - others).max())


def ending(empty: bool, comparison: Row, config: TrackConfig) -> str | None:
    """Return why an object ends before a slice, such as "likeness 0.302 < 0.55", or None if it does not end.

    Args:
        empty: Whether the mask in the slice is empty.
        comparison: `overlap`, `confidence` and `likeness` of the mask in the slice.
        config: Limits.
    """
    if empty:
        return "empty"
    for name in ("overlap", "confidence", "likeness"):
        limit = getattr(config, name)
        if comparison[name] < limit:
            return f"{name} {comparison[name]:.3f} < {limit:g}"
    return None
