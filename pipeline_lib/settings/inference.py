"""How masks are predicted and iterated."""

from typing import Literal

from pipeline_lib.settings.base import Count, Extent, PrecisionChoice, Settings, Share, Whole


class RefineConfig(Settings):
    """How masks are iterated: when a mask is final, which mask is the output, and what the next box is."""

    tau: Share
    """Largest change rate (τ) of a mask that has converged."""
    max_iterations: Whole
    """Largest number of repeated predictions (our reading of the paper). 0 makes first masks only."""
    largest_component: bool
    """Whether the next box is drawn around the largest component of the mask only."""
    select: Literal["last", "best"]
    """Which prediction is the output: the last one, or the one with the highest predicted IoU (our own)."""
    lead: Share
    """With `select: best`, how much higher than that of the first prediction the predicted IoU of an iteration must be.
    Our own models use 0.15."""
    mask_extent: Extent | None
    """Size, in multiples of the prompted box and about its centre, of the box at which masks end. Our own models use
    2.0. Null sets no limit."""
    objects_per_batch: Count
    """Number of objects, of one or more tiles, that are iterated together. Their masks are held in memory."""
    precision: PrecisionChoice
    """Precision of the decoder's matrix products, as in `embed`."""
