"""An object through the slices of a volume: its mask in one slice prompts the next one.

Objects are followed from the slices of their boxes, first to later slices and then to earlier ones. All objects that
have come to a slice are segmented together, so that a window is encoded once for all objects in it. What must be
remembered is the last mask of each object, whatever the number of slices.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.data.boxes import XYXY, grown
from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.tracks import PlacedMask, Row, output_rows, placed_mask
from pipeline_lib.data.windows import WindowConfig, with_windows
from pipeline_lib.inference.next_box import next_box
from pipeline_lib.inference.segmenter import Segmenter, batches_of_windows
from pipeline_lib.settings.segment import TrackConfig

End = Literal["empty", "predicted IoU", "overlap"]
# From a slice, a direction and the last row of each object that has come there, to a row for each of them.
SegmentSlice = Callable[[int, int, Mapping[int, Row]], Sequence[Row]]
Part = Callable[[ImageFile, int, slice, slice], NDArray[np.uint8]]  # pixels of a part of a slice, YX


def follow(starts: Sequence[Row], depth: int, segment_slice: SegmentSlice) -> None:
    """Segment objects slice by slice, first to later slices and then to earlier ones.

    Between two boxes of an object, the ways from both end at the slice in the middle. If the way from the earlier box
    ends before, the way from the later box goes on until they meet.

    Args:
        starts: Rows of `TRACKS` for the slices of the boxes.
        depth: Number of slices.
        segment_slice: Makes the rows of the next slice. An object with a row that has `ended` is not followed further.
    """
    slices: dict[int, list[int]] = {}
    for row in starts:
        slices.setdefault(row["object"], []).append(row["start"])
    reached: dict[tuple[int, int], int] = {}  # last slice of the way up, by object and start

    for direction in (1, -1):
        limits = _limits(slices, depth, direction, reached)
        going: dict[int, Row] = {}
        for z in range(depth)[::direction]:
            going = {
                number: row for number, row in going.items() if direction * (limits[number, row["start"]] - z) >= 0
            }
            if going:
                rows = segment_slice(z, direction, going)
                going = {row["object"]: row for row in rows if row["ended"] is None}
            if direction == 1:
                reached |= {(number, row["start"]): z for number, row in going.items()}
            going |= {row["object"]: row for row in starts if row["slice"] == z and row["ended"] is None}


def _limits(
    slices: Mapping[int, Sequence[int]], depth: int, direction: int, reached: Mapping[tuple[int, int], int]
) -> dict[tuple[int, int], int]:
    """Return the last slice that the way from a box can reach, by object and slice of the box."""
    limits = {}
    for number, of_object in slices.items():
        ascending = sorted(of_object)
        outer = ascending[-1] if direction == 1 else ascending[0]
        limits[number, outer] = depth - 1 if direction == 1 else 0
        for low, high in pairwise(ascending):
            if direction == 1:
                limits[number, low] = (low + high) // 2
            else:
                limits[number, high] = max(reached.get((number, low), low), low + 1)
    return limits


@dataclass(frozen=True)
class Follower:
    """A model that segments the objects of a volume in the next slice."""

    segmenter: Segmenter
    image: ImageFile
    part: Part
    windows: WindowConfig
    batch: int  # windows in a call of the encoder
    config: TrackConfig

    def segment_slice(self, z: int, direction: int, last: Mapping[int, Row]) -> list[Row]:
        """Segment objects in a slice from their masks in the slice before, as `SegmentSlice`."""
        masks = {number: placed_mask(row, self.image) for number, row in last.items()}
        boxes = np.stack([self.prompt(mask) for mask in masks.values()])
        table = pd.DataFrame(boxes, pd.Index(masks, name="id"), XYXY).assign(image=self.image.name, slice=z, reason="")
        given = Prompts((self.image,), *with_windows(table, [self.image], self.windows))
        rows: dict[int, Row] = {}
        for windows in batches_of_windows(range(len(given.windows)), given, self.batch):
            pixels = [self.part(*given.place(number)) for number in windows]
            rows |= output_rows(given, self.segmenter.run(given, windows, pixels).rows)
        return [
            {"object": number, "start": last[number]["start"], "direction": direction}
            | self._compared(rows[number], mask)
            for number, mask in masks.items()
        ]

    def prompt(self, mask: PlacedMask) -> NDArray[np.float32]:
        """Return the box (4,), XYXY pixels of the slice, that prompts the next slice. It may reach beyond the slice."""
        box = next_box(mask.mask, only_largest=True) + np.tile([mask.x, mask.y], 2)
        return np.asarray(grown(box[None], 1 + self.config.room)[0], np.float32)

    def _compared(self, row: Row, before: PlacedMask) -> Row:
        """Return a row with what the comparison with the mask of the slice before says."""
        mask = placed_mask(row, self.image)
        overlap = mask.overlap(before)
        return row | {"overlap": overlap, "ended": ending(mask, row["predicted_iou"], overlap, self.config)}


def ending(mask: PlacedMask, predicted_iou: float, overlap: float, config: TrackConfig) -> End | None:
    """Return why an object ends before a slice, from its mask there, or None if it goes on."""
    if not mask.mask.any():
        return "empty"
    if predicted_iou < config.predicted_iou:
        return "predicted IoU"
    return "overlap" if overlap < config.overlap else None
