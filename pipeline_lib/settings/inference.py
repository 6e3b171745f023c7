"""Settings of the prediction and iteration of masks."""

from typing import Literal

from pipeline_lib.settings.base import Count, Extent, PrecisionChoice, Settings, Share, Whole


class RefineConfig(Settings):
    """How masks are iterated: when iteration stops, which mask is the output, and how the next box is drawn."""

    tau: Share
    """Largest change rate (τ) of a mask that has converged."""
    max_iterations: Whole
    """Largest number of repeated predictions (our reading of the paper). 0 predicts only first masks."""
    largest_component: bool
    """Whether the next box is drawn around the largest component of the mask only."""
    select: Literal["last", "best"]
    """Which prediction is the output: the last one, or the one with the highest predicted IoU (our own)."""
    lead: Share
    """With `select: best`, an iteration is the output only if its predicted IoU exceeds that of the first prediction by
    this much. Our own models use 0.15."""
    mask_extent: Extent | None
    """Masks end at a box with the same centre as the prompt and this multiple of its sides. Our own models use 2.0.
    Null sets no limit."""
    objects_per_batch: Count
    """Number of objects, of one or more tiles, that are iterated together. Their masks must fit in memory."""
    precision: PrecisionChoice
    """Precision of the decoder's matrix products, as in `embed`."""
