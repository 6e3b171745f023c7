"""Stage boxes: find the exact box of every object."""

import pandas as pd
from tqdm import tqdm

from pipeline_lib.data.boxes import COLUMNS, object_boxes
from pipeline_lib.data.dataset import Store
from pipeline_lib.errors import DataError
from pipeline_lib.runtime.atomic import atomic


def boxes(*, store: str, boxes: str) -> None:
    """Write a CSV table with a row for each object of a store: its tile, number, split, box and area.

    Rows are sorted by tile and object. Boxes are XYXY half-open, in pixels of the tile; areas are in pixels. Tiles can
    be without objects.

    Raises:
        DataError: a split has no objects.
    """
    opened = Store.open(store)
    rows = [
        (tile, number, opened.split(tile), *box)
        for tile in tqdm(range(len(opened)), "boxes", mininterval=10)
        for number, *box in object_boxes(opened.objects(tile))
    ]
    table = pd.DataFrame(rows, columns=COLUMNS)
    for split in dict.fromkeys(origin.split for origin in opened.slices):
        if split not in set(table["split"]):
            raise DataError(
                f"{store}: expected at least one object in each split of {opened.name}, but {split} has none; "
                "check its labels and minimum_area"
            )
    with atomic(boxes) as partial:
        table.to_csv(partial, index=False)
