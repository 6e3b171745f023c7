"""Read how measured boxes deviate from exact ones, from the table `deviations.csv` of `loosebox deviation`."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline_lib.data.boxes import OUTWARD
from pipeline_lib.data.tables import read_table
from pipeline_lib.errors import DataError

# Columns: how far each edge lies outside, as a share of the side of the object
EDGES = ("left", "top", "right", "bottom")


def read_moves(path: str) -> NDArray[np.float64]:
    """Return how far each edge of the measured boxes lies right of, or below, the exact edge.

    Returns:
        (N, 4), XYXY, in shares of the sides of the object.

    Raises:
        DataError: The file has no rows, lacks a column of `EDGES`, or has a row that is not four finite numbers, or
            would not be a box.
    """
    table = read_table(path)
    if missing := [edge for edge in EDGES if edge not in table.columns]:
        raise DataError(
            f"{path}: expected the columns {', '.join(EDGES)} of deviations.csv, found no {', '.join(missing)}; "
            "write the file with `loosebox deviation`"
        )
    outward = table[list(EDGES)].apply(pd.to_numeric, errors="coerce").to_numpy(float)  # other texts become NaN
    if not len(outward):
        raise DataError(f"{path}: expected a row for each measured box, found none; measure more boxes")
    broken = ~(np.isfinite(outward).all(axis=1) & (1 + outward[:, :2] + outward[:, 2:] > 0).all(axis=1))
    if broken.any():
        raise DataError(
            f"{path}:{2 + int(np.argmax(broken))}: expected deviations of a box with an area, found "
            f"{', '.join(f'{value:g}' for value in outward[broken][0])}; write the file with `loosebox deviation`"
        )
    return np.asarray(outward * OUTWARD)
