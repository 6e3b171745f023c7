"""Segment windows of images: encode them, prompt with their boxes, and iterate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pipeline_lib.data.backbone import Backbone
from pipeline_lib.data.model_header import check_fits
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.inference.iterate import Inference, Predictions, Timing
from pipeline_lib.inference.predictor import Predictor
from pipeline_lib.model.backbones import load_to_encode
from pipeline_lib.model.box_model import BoxModel, box_model, load_model
from pipeline_lib.model.embeddings import encode_tiles, engine_of, to_network
from pipeline_lib.model.frame import Frame
from pipeline_lib.model.upstream import Sam
from pipeline_lib.runtime.device import Precision, device
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.model import ModelConfig

PIXELS = 64 * 1024**2  # most pixels of the masks of all objects that are iterated together
UNTRAINED = ModelConfig(trains=("mask_decoder",), token=None)  # the backbone as it is


@dataclass(frozen=True)
class Segmenter:
    """A backbone with its encoder, and a model that was trained on it, or its own decoder."""

    sam: Sam
    model: BoxModel
    precision: Precision
    refine: RefineConfig

    @classmethod
    def load(
        cls, weights: str | Path, model: str | Path | None, precision: Precision, refine: RefineConfig
    ) -> "Segmenter":
        """Load a backbone and a model.

        Args:
            weights: manifest of the backbone.
            model: file of a trained model; None: the backbone's own decoder.
            precision: precision of matrix products.
            refine: settings of the iteration.

        Raises:
            WeightsError: the file is not a model, or a model of another backbone.
        """
        if model:
            check_fits(model, Backbone.read(weights))
        sam = load_to_encode(weights, precision)
        network = load_model(model).to(device()) if model else box_model(sam, UNTRAINED).eval()
        return cls(sam, network, precision, refine)

    @property
    def engine(self) -> str:
        """The library that runs the encoder."""
        return engine_of(self.sam)

    def run(self, prompts: Prompts, windows: Sequence[int], pixels: Sequence[NDArray[np.uint8]]) -> Predictions:
        """Encode some windows of equal side, and predict and iterate the masks of their boxes (rows of `WINDOWS`).

        Args:
            prompts: boxes and windows.
            windows: numbers of windows, ascending.
            pixels: pixels of each window, YX uint8.
        """
        side, places = prompts.windows[windows[0]].side, {number: place for place, number in enumerate(windows)}
        frame = Frame((side, side), self.sam.image_encoder.img_size)
        embeddings = encode_tiles(self.sam, [to_network(part, frame) for part in pixels], self.precision)
        inference = Inference(Predictor(self.model, frame, self.precision, self.refine.mask_extent), self.refine)
        boxes = prompts.prompted(windows)
        keys = boxes[["window"]].assign(box=boxes.index)
        corners = prompts.in_window(boxes)

        def embedding(number: int) -> Tensor:
            return embeddings[places[number] : places[number] + 1]

        def shape(number: int) -> tuple[int, int]:
            height, width = pixels[places[number]].shape
            return height, width

        rows: list[dict[str, Any]] = []
        timing = Timing()
        at_once = max(1, min(self.refine.objects_per_batch, PIXELS // side**2))
        for start in range(0, len(boxes), at_once):
            part = slice(start, start + at_once)
            predictions = inference.run(keys.iloc[part], corners[part], embedding, shape)
            rows += predictions.rows
            timing += predictions.timing
        return Predictions(rows, timing)


def batches_of_windows(windows: Sequence[int], prompts: Prompts, most: int) -> Iterator[list[int]]:
    """Yield the numbers of at most `most` consecutive windows of equal side at a time."""
    for _, run in groupby(windows, key=lambda number: prompts.windows[number].side):
        numbers = list(run)
        for start in range(0, len(numbers), most):
            yield numbers[start : start + most]
