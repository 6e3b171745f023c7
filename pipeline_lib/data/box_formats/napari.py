"""Read the CSV file that napari saves for a layer of shapes, with a row for each vertex.

In napari, a pixel extends from half a pixel before its index to half a pixel after it.
"""

from collections.abc import Iterator, Mapping

import numpy as np

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, corners, number, slice_number

LINES = {"line", "path"}  # shapes without an area


def _matches(file: BoxFile) -> bool:
    return "shape-type" in file.table.columns


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the bounding box of each shape. The last axis before y and x is the slice.

    Raises:
        DataError: The slice of a shape is not a number.
    """
    image, (columns, rows) = images.of_file(file.path), file.table
    axes = sorted((name for name in columns if name.startswith("axis-")), key=lambda name: int(name[5:]))
    shapes: dict[str, list[tuple[int, Mapping[str, str | None]]]] = {}
    for line, row in rows:
        shapes.setdefault(str(row["index"]), []).append((line, row))
    for index, vertices in shapes.items():
        *z, y, x = np.array([[number(row[axis]) for axis in axes] for _, row in vertices]).T + 0.5
        where, kind = f"{file.path}:{vertices[0][0]}", str(vertices[0][1]["shape-type"]).strip()
        yield BoxRecord(
            image=image,
            **corners(x.min(), y.min(), x.max(), y.max()),
            where=where,
            slice=slice_number(np.floor(z[-1][0]), where) if z else None,
            name=index,
            skip=f"a shape of the type {kind} encloses no area" if kind in LINES else "",
        )


NAPARI = BoxFormat(
    name="csv",
    title="napari shapes",
    program="napari",
    suffixes=(".csv",),
    content="the column shape-type",
    matches=_matches,
    outline=BoxFile.table_outline,
    read=_read,
)
