"""Read tables with a header. The names of their columns say how boxes are described, in pixels."""

import re
from collections.abc import Iterator

from pipeline_lib.data.box_formats.box_file import BoxFile, first_text
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.csv_tools import TOOLS
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, corners, number
from pipeline_lib.data.box_formats.rows import (
    IMAGE,
    BoxColumns,
    Row,
    check_image_column,
    corner_or_centre,
    from_centre,
    only_columns,
    slices,
    xywh,
)

XYXY_COLUMNS = [
    ("x0", "y0", "x1", "y1"),
    ("x1", "y1", "x2", "y2"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
]
CORNER_COLUMNS = [("left", "top", "width", "height")]
CENTRE_COLUMNS = [("x_center", "y_center", "width", "height"), ("cx", "cy", "w", "h")]
EITHER_COLUMNS = [("x", "y", "width", "height"), ("x", "y", "w", "h")]
XYXY = [BoxColumns(names, corners) for names in XYXY_COLUMNS]
XYWH = [BoxColumns(names, xywh) for names in [*CORNER_COLUMNS, *EITHER_COLUMNS]]
CENTRED = [BoxColumns(names, from_centre) for names in CENTRE_COLUMNS]
SLICE = ("slice", "z")
CLASS, SCORE, NAME = ("class", "label", "category"), ("score", "confidence"), ("track", "name", "id")
YOLOV5 = {"xmin", "ymin", "xmax", "ymax", "confidence", "class", "name"}  # `name` is the name of the class `class`
SIZE = ("width", "height")


def _matches(file: BoxFile) -> bool:
    known = any(set(each.names) <= set(file.table.columns) for each in [*XYXY, *XYWH, *CENTRED])
    return known and not any(tool.matches(file) for tool in TOOLS)


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the box of each row.

    Raises:
        DataError: A slice is not a whole number, a name fits several images, columns have two meanings, or a size
            differs from that of the image.
    """
    # Columns of the boxes
    xyxy = only_columns(file, XYXY)
    columns = xyxy or only_columns(file, [*XYWH, *CENTRED])
    assert columns is not None  # `_matches` has checked it
    file.check_columns([*IMAGE, *SLICE, *CLASS, *SCORE, *NAME])
    check_image_column(file, IMAGE)
    # Image of each row
    called = [first_text(row, IMAGE) for _, row in file.table.rows]
    names = [images.find(text) if text else images.of_file(file.path) for text in called]
    if columns.names in EITHER_COLUMNS:
        rows = [(name, row) for name, (_, row) in zip(names, file.table.rows, strict=True)]
        columns = corner_or_centre(file, columns, rows, images)
    if xyxy and set(SIZE) <= set(file.table.columns):
        _check_sizes(file, xyxy, names, images)
    # Slice of each row
    places = [f"{file.path}:{line}" for line, _ in file.table.rows]
    texts = [first_text(row, SLICE) for _, row in file.table.rows]
    numbers = slices(list(zip(names, texts, places, strict=True)), images)
    yolov5 = set(file.table.columns) >= YOLOV5
    for index, (_, row) in enumerate(file.table.rows):
        name = "" if yolov5 else first_text(row, NAME)
        yield BoxRecord(
            image=names[index],
            **columns.box(row),
            where=places[index],
            slice=numbers[index],
            name=name,
            track=name,
            label=first_text(row, ("name",) if yolov5 else CLASS),
            score=number(first_text(row, SCORE)),
            called=called[index],
        )


def _check_sizes(file: BoxFile, columns: BoxColumns, names: list[str], images: Images) -> None:
    """Compare columns `width` and `height`, beside those of the corners, with the sizes of the images.

    They can also be the sizes of the boxes. Then there is nothing to compare.
    """

    def of_box(row: Row) -> bool:
        box = columns.box(row)
        sides = box["x1"] - box["x0"], box["y1"] - box["y0"]
        return all(abs(side - number(row[name])) <= 1 for side, name in zip(sides, SIZE, strict=True))

    if all(of_box(row) for _, row in file.table.rows):
        return
    for name, (line, row) in zip(names, file.table.rows, strict=True):
        images.check_size(name, row[SIZE[0]], row[SIZE[1]], f"{file.path}:{line}")


CSV = BoxFormat(
    name="csv",
    title="CSV",
    program="spreadsheets, scripts",
    suffixes=(".csv", ".tsv"),
    content=f"columns such as {' or '.join(','.join(each[0].names) for each in (XYXY, XYWH, CENTRED))}",
    matches=_matches,
    outline=BoxFile.table_outline,
    read=_read,
)


# A line of make-sense: class, x, y, width and height of the box, name of the image, its width and height
HEADERLESS = re.compile(r"[^,]*(,-?\d+(\.\d+)?){4},[^,]+,\d+,\d+")


def _matches_headerless(file: BoxFile) -> bool:
    return bool(HEADERLESS.fullmatch(next(filter(str.strip, file.lines), "").strip()))


def _read_headerless(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    for line, text in enumerate(file.lines, start=1):
        if not text.strip():
            continue
        label, x, y, w, h, called, width, height = text.strip().split(",")
        image, where = images.find(called), f"{file.path}:{line}"
        images.check_size(image, width, height, where)
        box = xywh(*map(number, (x, y, w, h)))
        yield BoxRecord(image=image, **box, where=where, label=label, called=called)


MAKE_SENSE = BoxFormat(
    name="csv",
    title="make-sense",
    program="make-sense",
    suffixes=(".csv",),
    content="lines of class, corner, size, image and the size of the image, without a header",
    matches=_matches_headerless,
    outline=BoxFile.table_outline,
    read=_read_headerless,
)
