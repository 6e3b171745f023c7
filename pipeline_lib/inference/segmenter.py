"""Windows of images and boxes within them to masks: encoder, prompts and iterations in one."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.records import Backbone, read_record
from pipeline_lib.errors import WeightsError
from pipeline_lib.inference.iterate import Inference, IterationConfig
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.backbones import load_backbone
from pipeline_lib.model.box_model import BoxModel, ModelConfig, box_model, load_model
from pipeline_lib.model.embeddings import encode_tiles, to_network
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.upstream import Sam
from pipeline_lib.runtime.device import Precision, device

PIXELS = 64 * 1024**2  # of masks whose iterations are held at a time
UNTRAINED = ModelConfig(trains=("mask_decoder",), token=None)  # the backbone as it is


def check_fits(model: str | Path, backbone: Backbone) -> None:
    """Compare what a model was trained on with the backbone at hand.

    Raises:
        WeightsError: it is of another backbone, or of another checkpoint of the same.
    """
    made = read_record(model)
    if made["backbone"] != backbone.name:
        raise WeightsError(f"{model}: trained on the backbone {made['backbone']}, but {backbone.name} is set")
    checkpoint = made["training"].get("checkpoint", backbone.digest)  # version 0.2 did not record it
    if checkpoint != backbone.digest:
        raise WeightsError(f"{model}: trained on a checkpoint of digest {checkpoint}, but {backbone.checkpoint} is set")


def trained_side(model: str | Path | None, backbone: Backbone) -> int:
    """Pixels of the image that the network saw along a side in training; without any, those of its input."""
    tile = read_record(model)["training"].get("tile") if model else None
    return max(tile) if tile else backbone.image_size


@dataclass(frozen=True)
class Segmenter:
    """A backbone with its encoder, and the model that was trained on it or its own decoder."""

    sam: Sam
    model: BoxModel
    precision: Precision
    config: IterationConfig
    window: float | None  # of masks, as of `Predictor`
    boxes_at_once: int

    @classmethod
    def load(
        cls, weights: str | Path, model: str | Path | None, precision: Precision, settings: Mapping[str, Any]
    ) -> "Segmenter":
        """The backbone of a manifest, with a model of the stage train, or None for the backbone as it is.

        `settings` are those of the config's section `refine`.

        Raises:
            WeightsError: the model is not one, or of another backbone.
        """
        if model:
            check_fits(model, Backbone.read(weights))
        sam = load_backbone(weights).to(device())
        decoder = load_model(model).to(device()) if model else box_model(sam, UNTRAINED).eval()
        config = IterationConfig.of(settings)
        return cls(sam, decoder, precision, config, settings["window"], settings["objects_per_batch"])

    def of(self, given: Prompts, windows: Sequence[int], pixels: Sequence[NDArray[np.uint8]]) -> dict[str, Any]:
        """All predictions for the boxes of some windows of one side, as rows of `SCHEMA`, and their `Timing`.

        In the rows a `tile` is a window's number, an `object` that of a box.

        Args:
            given: boxes and windows.
            windows: numbers of windows, ascending.
            pixels: of each of them, YX.
        """
        side, places = given.windows[windows[0]].side, {number: place for place, number in enumerate(windows)}
        frame = Frame((side, side), self.sam.image_encoder.img_size)
        embeddings = encode_tiles(self.sam, [to_network(part, frame) for part in pixels], self.precision)
        inference = Inference(Predictor(self.model, frame, self.precision, self.window), self.config)
        boxes = given.prompted(windows)
        objects = boxes[["window"]].set_axis(["tile"], axis=1).assign(object=boxes.index)
        prompts = given.in_window(boxes)

        def embedding(number: int) -> Tensor:
            return embeddings[places[number] : places[number] + 1]

        def shape(number: int) -> tuple[int, int]:
            height, width = pixels[places[number]].shape
            return height, width

        rows: list[dict[str, Any]] = []
        timing: Counter[str] = Counter()
        at_once = max(1, min(self.boxes_at_once, PIXELS // side**2))
        for start in range(0, len(boxes), at_once):
            some = slice(start, start + at_once)
            piece = inference.of(objects.iloc[some], prompts[some], embedding, shape)
            rows += piece["rows"]
            timing.update(piece["timing"])
        return {"rows": rows, "timing": timing}


def alike(windows: Sequence[int], given: Prompts, most: int) -> Iterator[list[int]]:
    """Runs of windows, by number, that follow each other and have one side, of at most so many."""
    for _, run in groupby(windows, key=lambda number: given.windows[number].side):
        numbers = list(run)
        for start in range(0, len(numbers), most):
            yield numbers[start : start + most]
