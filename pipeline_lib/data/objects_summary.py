"""Summarise the table of objects for each image and class."""

import pandas as pd

from pipeline_lib.data.measurements import IN_NANOMETRES, IN_PIXELS

KEYS = ["image", "label"]
AVERAGED = [
    *IN_PIXELS,
    "circularity",
    "grey_mean_8bit",
    *IN_NANOMETRES,
]  # not the orientation: angles need a circular mean


def objects_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each image and class that has boxes, sorted by image and class.

    Args:
        table: A table of `objects_table`.

    Returns:
        A table with the columns

        - `image` and `label`;
        - the numbers of `boxes`, of `objects` (boxes with a mask), and of `flagged` and `skipped` boxes;
        - the sum of the areas of the objects;
        - mean and standard deviation over objects of each measurement except the orientation. The standard deviation is
          that of a sample, so it is NaN for a single object.
    """
    table = table.astype({"area": float})
    skipped, has_mask = table["flags"].str.startswith("skipped"), table["area"] > 0
    flags = pd.DataFrame(
        {"boxes": True, "objects": has_mask, "flagged": (table["flags"] != "") & ~skipped, "skipped": skipped}
    )
    counts = flags.groupby([table[key] for key in KEYS]).sum().astype(int)
    names = [name for name in AVERAGED if name in table.columns]
    areas, groups = table.groupby(KEYS), table[has_mask].groupby(KEYS)
    sums = {f"{name}_sum": areas[name].sum() for name in names if name.startswith("area")}
    sums["area_sum"] = sums["area_sum"].astype("Int64")  # a float would lose digits of large sums in the file
    averages = {f"{name}_{figure}": groups[name].agg(figure) for name in names for figure in ("mean", "std")}
    return counts.join(pd.DataFrame(sums)).join(pd.DataFrame(averages)).reset_index()
