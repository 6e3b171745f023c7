"""Segment images that are in memory, for notebooks and scripts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from pipeline_lib.config.defaults import segmentation
from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.box_checks import checked_boxes
from pipeline_lib.data.boxes import XYXY
from pipeline_lib.data.images import ImageFile
from pipeline_lib.data.instances import Instances
from pipeline_lib.data.mask_formats.mask_format import MaskSet
from pipeline_lib.data.masks import Mask
from pipeline_lib.data.model_header import SHIPPED, ModelHeader, model_path, trained_side
from pipeline_lib.data.objects_table import objects_table
from pipeline_lib.data.predictions import WINDOWS
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.track_tables import slices_table, volume_table
from pipeline_lib.data.tracks import TRACKS, Numbers, Row, Tracks, first_rows
from pipeline_lib.data.windows import WindowConfig, with_windows
from pipeline_lib.errors import DataError
from pipeline_lib.inference.follow import Follower, Part, follow
from pipeline_lib.inference.segmenter import Segmenter, batches_of_windows
from pipeline_lib.runtime.device import choose_precision
from pipeline_lib.settings.backbone import BackboneChoice
from pipeline_lib.settings.messages import parsed
from pipeline_lib.settings.segment import SegmentConfig
from pipeline_lib.stages.weights import weights

NAME = "image"  # name of the only image of a call


@dataclass(frozen=True)
class LoadedSegmenter:
    """A model in memory. Call it with an image and boxes, or `track` with a volume and boxes."""

    segmenter: Segmenter
    windows: WindowConfig
    settings: SegmentConfig

    def __call__(self, image: NDArray[np.uint8], boxes: ArrayLike | pd.DataFrame) -> tuple[Mask, pd.DataFrame]:
        """Segment the objects that boxes enclose.

        Args:
            image: YX, uint8.
            boxes: (N, 4), XYXY half-open pixels; or a table with columns x0, y0, x1, y1 and optionally label and score.

        Returns:
            Masks (N, h, w) bool, empty for a skipped box, and the table of `objects_table` with a row for each box,
            numbered from 1.

        Raises:
            DataError: the image is not grey and 8-bit; or a box is bad, and `on_bad_box` is not "skip".
        """
        if image.ndim != 2 or image.dtype != np.uint8:
            raise DataError(
                f"image: expected uint8 of shape (height, width), found {image.dtype} {image.shape}; convert it to "
                "8-bit grey"
            )
        height, width = image.shape
        file = ImageFile(NAME, NAME, (1, height, width), None, "")

        def part(_: ImageFile, z: int, y: slice, x: slice) -> NDArray[np.uint8]:
            return image[y, x]

        table = checked_boxes(_boxes_table(boxes), {NAME: file.shape}, self.settings.on_bad_box)
        prompts = Prompts((file,), *with_windows(table, [file], self.windows))
        history = self._predict(prompts, part)
        instances = Instances.of(prompts, history)
        masks = np.zeros((len(table), height, width), bool)
        for number, each in instances.masks.items():
            masks[number - 1, each.y0 : each.y1, each.x0 : each.x1] = instances.crop(number)
        mask_set = MaskSet(instances, part, self.settings.pixel_size)
        return masks, objects_table(mask_set, history, self.settings.flags, self.segmenter.refine.mask_extent)

    def track(
        self, volume: NDArray[np.uint8], boxes: pd.DataFrame
    ) -> tuple[NDArray[np.uint32], pd.DataFrame, pd.DataFrame]:
        """Follow the objects that boxes enclose through the slices of a volume.

        Args:
            volume: ZYX, uint8.
            boxes: columns x0, y0, x1, y1 (XYXY half-open pixels) and `slice`, counted from 0; optionally name, label
                and score. Boxes with the same name are of one object.

        Returns:
            The label image (ZYX) uint32 with the numbers of the objects, and the tables of `volume_table` and
            `slices_table`.

        Raises:
            DataError: the volume is not grey and 8-bit; a box names no slice; or a box is bad, and `on_bad_box` is not
                "skip".
        """
        tracks = self.tracks(volume, boxes)
        depth, height, width = tracks.image.shape
        slices, numbers = slices_table(tracks), Numbers(tracks)
        objects = volume_table(tracks, slices, self.settings.pixel_size, self.settings.track.flags)
        labels = [numbers.block(z, slice(0, height), slice(0, width)) for z in range(depth)]
        return np.stack(labels), objects, slices

    def tracks(self, volume: NDArray[np.uint8], boxes: pd.DataFrame) -> Tracks:
        """Return the masks of each object. A label image cuts objects where they overlap; these masks are whole.

        Arguments and errors are those of `track`.
        """
        # Check the volume and the boxes.
        if volume.ndim != 3 or volume.dtype != np.uint8:
            raise DataError(
                f"volume: expected uint8 of shape (slices, height, width), found {volume.dtype} {volume.shape}; "
                "convert it to 8-bit grey"
            )
        if not isinstance(boxes, pd.DataFrame) or "slice" not in boxes:
            raise DataError(
                "boxes: expected a table with the column `slice`, counted from 0; found none; add the slice of each box"
            )
        depth, height, width = volume.shape
        file = ImageFile(NAME, NAME, (depth, height, width), None, "")
        table = _boxes_table(boxes).assign(slice=pd.to_numeric(boxes["slice"].to_numpy(), errors="coerce"))
        if table.empty:
            raise DataError("boxes: expected at least one box, found none; draw or detect boxes")
        is_bad = ~(table["slice"] % 1 == 0).to_numpy()
        if is_bad.any():
            box, value = table["where"][is_bad].iloc[0], boxes["slice"][is_bad].iloc[0]
            raise DataError(f"{box} names no slice: expected a whole number, counted from 0; found {value}")
        table["slice"] = table["slice"].astype(int)
        table["name"] = table["track"] = table["name"].fillna("").astype(str)
        table = checked_boxes(table, {NAME: file.shape}, self.settings.on_bad_box)
        prompts = Prompts((file,), *with_windows(table, [file], self.windows))

        def part(_: ImageFile, z: int, y: slice, x: slice) -> NDArray[np.uint8]:
            return volume[z, y, x]

        # Segment the slices of the boxes, then follow the objects from there.
        starts, config = first_rows(prompts, self._predict(prompts, part)), self.settings
        follower = Follower(self.segmenter, file, part, self.windows, config.batch, config.track, starts)
        rows = [*starts]

        def segment_slice(z: int, direction: int, last: Mapping[int, Row]) -> list[Row]:
            rows_of_slice = follower.segment_slice(z, direction, last)
            rows.extend(rows_of_slice)
            return rows_of_slice

        follow(starts, depth, segment_slice)
        return Tracks(prompts, pd.DataFrame(rows, columns=TRACKS.names))

    def _predict(self, prompts: Prompts, part: Part) -> pd.DataFrame:
        """Return the predictions for all boxes, as the stage segment writes them."""
        rows = []
        for windows in batches_of_windows(range(len(prompts.windows)), prompts, self.settings.batch):
            pixels = [part(*prompts.place(number)) for number in windows]
            rows += self.segmenter.run(prompts, windows, pixels).rows
        return pd.DataFrame(rows, columns=WINDOWS.names)


def load_segmenter(
    model: str | Path | None = None,
    backbone: str | None = None,
    checkpoint: str | Path | None = None,
    **settings: Any,
) -> LoadedSegmenter:
    """Load a model for calls with images in memory.

    Args:
        model: file of a model. By default, the model that comes with LooseBox.
        backbone: name of a backbone to use without a trained model. With a `model`, it must be the model's backbone.
        checkpoint: file of the backbone's weights. By default, the shipped or released weights.
        settings: keys of the section `segment` (docs/keys.md) that replace the defaults.

    Raises:
        DataError: a setting is unknown or has a wrong value.
        WeightsError: the weights are missing, damaged or of another backbone.
    """
    segment, refine = segmentation({"segment": settings})
    model = chosen_model(model, backbone)
    choice = backbone_choice(backbone, model, checkpoint)
    with TemporaryDirectory() as folder:
        manifest = f"{folder}/weights.json"
        weights(manifest=manifest, backbone=choice, folder="resources")
        segmenter = Segmenter.load(manifest, model, choose_precision(segment.precision), refine)
        side = segment.window or trained_side(model, Backbone.read(manifest))
    return LoadedSegmenter(segmenter, WindowConfig(side, segment.object_share, segment.margin), segment)


def chosen_model(model: str | Path | None, backbone: str | None) -> Path | None:
    """Return the file of the model to use. By default it is the shipped one; None if only a backbone is named."""
    if model:
        return model_path(model)
    return None if backbone else model_path(SHIPPED)


def backbone_choice(
    name: str | None, model: str | Path | None = None, checkpoint: str | Path | None = None
) -> BackboneChoice:
    """Return the backbone with a name or, without a name, the backbone of a model (by default the shipped one).

    Args:
        name: name of a backbone.
        model: file of a model.
        checkpoint: file of the backbone's weights. By default, the shipped or released weights.

    Raises:
        DataError: there is no backbone of this name.
    """
    name = name or ModelHeader.read(model_path(model or SHIPPED)).backbone
    return parsed(BackboneChoice, {"name": name, "checkpoint": str(checkpoint) if checkpoint else None}, "backbone")


def _boxes_table(boxes: ArrayLike | pd.DataFrame) -> pd.DataFrame:
    """Return boxes as a table like that of `read_box_files`, numbered from 1."""
    if isinstance(boxes, pd.DataFrame):
        table = boxes.copy()
    else:
        corners = np.atleast_2d(np.asarray(boxes, float)) if np.size(boxes) else np.zeros((0, 4))
        if corners.ndim != 2 or corners.shape[1] != 4:
            raise DataError(
                f"boxes: expected an array (N, 4), found one of shape {np.shape(boxes)}; each row is x0, y0, x1, y1"
            )
        table = pd.DataFrame(corners, columns=XYXY)
    if not set(XYXY) <= set(table.columns):
        raise DataError(f"boxes: expected the columns {', '.join(XYXY)}; found {', '.join(map(str, table.columns))}")
    table[XYXY] = table[XYXY].apply(pd.to_numeric, errors="coerce").astype(float)
    table.index = pd.RangeIndex(1, len(table) + 1, name="id")
    defaults: dict[str, Any] = {"label": "", "score": np.nan, "name": "", "skip": ""}
    missing = {key: value for key, value in defaults.items() if key not in table.columns}
    return table.assign(image=NAME, slice=0, where=[f"boxes: row {number}" for number in range(len(table))], **missing)
