"""Stage boxes: the exact box of every object."""

import pandas as pd
from tqdm import tqdm

from pipeline_lib.data.boxes import COLUMNS, object_boxes
from pipeline_lib.data.dataset import Store
from pipeline_lib.errors import DataError
from pipeline_lib.runtime.atomic import atomic


def boxes(*, store: str, boxes: str) -> None:
    """Write a CSV table of every object of a store: its tile, id, split, box and area in pixels.

    Rows are sorted by tile and object. A tile may be without objects.

    Raises:
        DataError: a split has no object at all.
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
                "are its labels and minimum_area right?"
            )
    with atomic(boxes) as partial:
        table.to_csv(partial, index=False)
