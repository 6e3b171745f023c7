"""Sums by slice, as figures are made of, written by hand."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from pipeline_lib.evaluation.published import PK, Row


def by_slice(totals: ArrayLike, counts: ArrayLike = 1.0) -> pd.DataFrame:
    """The sums of one figure: totals (seeds, slices), or of one seed (slices,), and the slices' counts."""
    totals = np.atleast_2d(np.asarray(totals, float))
    index = pd.MultiIndex.from_product([range(size) for size in totals.shape], names=["seed", "slice"])
    return pd.DataFrame({"sum": totals.ravel(), "n": np.broadcast_to(counts, totals.shape).ravel()}, index)


def of_data_set(miou: Mapping[tuple[Row, int], ArrayLike], iterations: Mapping[int, ArrayLike]) -> pd.DataFrame:
    """The sums of a data set whose slices weigh alike: mIoU by row and level, iterations of proposed P + K by level."""
    figures = {("miou", *row, level): by_slice(totals) for (row, level), totals in miou.items()}
    figures |= {("iterations", *PK, level): by_slice(totals) for level, totals in iterations.items()}
    return pd.concat(figures, names=["figure", "model", "iterated", "level"]).sort_index()
