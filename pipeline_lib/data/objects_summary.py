"""What the table of objects comes to for each image and class."""

import pandas as pd

from pipeline_lib.data.measurements import IN_NANOMETRES, IN_PIXELS

KEYS = ["image", "label"]
AVERAGED = [*IN_PIXELS, "circularity", "grey_mean_8bit", *IN_NANOMETRES]  # an angle has no such mean


def objects_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each image and class that has boxes, by image and class.

    Args:
        table: of `objects_table`.

    Returns:
        `image`, `label`; numbers of `boxes`, of `objects` (boxes with a mask), of `flagged` and `skipped` boxes; of the
        objects the sum of their areas, and of each measurement but the orientation the mean and the standard deviation
        over objects (of a sample, so NaN of a single one).
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
    sums["area_sum"] = sums["area_sum"].astype("Int64")  # so that no digit is lost in a file
    averages = {f"{name}_{figure}": groups[name].agg(figure) for name in names for figure in ("mean", "std")}
    return counts.join(pd.DataFrame(sums)).join(pd.DataFrame(averages)).reset_index()
