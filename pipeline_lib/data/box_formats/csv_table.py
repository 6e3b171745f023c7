"""CSV with a header: the names of the columns say whether boxes are XYXY or XYWH, in pixels."""

from collections.abc import Iterator, Sequence

from pipeline_lib.data.box_formats.box_file import BoxFile, first_text
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, corners, number, slice_number

XYXY_COLUMNS = [("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom")]
XYWH_COLUMNS = [("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height")]
IMAGE, SLICE = ("image", "filename", "file"), ("slice", "z")
CLASS, SCORE, NAME = ("class", "label", "category"), ("score", "confidence"), ("track", "name", "id")


def _matches(file: BoxFile) -> bool:
    columns = file.table.columns
    return _columns_of(columns, XYXY_COLUMNS) is not None or _columns_of(columns, XYWH_COLUMNS) is not None


def _columns_of(columns: Sequence[str], choices: Sequence[tuple[str, ...]]) -> tuple[str, ...] | None:
    return next((names for names in choices if set(names) <= set(columns)), None)


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Read a box from each row.

    Raises:
        DataError: a slice is not a whole number, or several images have the name of one.
    """
    columns, rows = file.table
    xyxy = _columns_of(columns, XYXY_COLUMNS)
    names = xyxy or _columns_of(columns, XYWH_COLUMNS) or ()
    for line, row in rows:
        a, b, c, d = (number(row[name]) for name in names)
        text, slice_text, where = first_text(row, IMAGE), first_text(row, SLICE), f"{file.path}:{line}"
        yield BoxRecord(
            image=images.find(text) if text else images.of_file(file.path),
            **(corners(a, b, c, d) if xyxy else corners(a, b, a + c, b + d)),
            where=where,
            slice=slice_number(slice_text, where) if slice_text else None,
            name=first_text(row, NAME),
            label=first_text(row, CLASS),
            score=number(first_text(row, SCORE)),
        )


CSV = BoxFormat(
    name="csv",
    title="CSV",
    program="spreadsheets, scripts",
    suffixes=(".csv",),
    content=f"the columns {' or '.join(','.join(names) for names in [*XYXY_COLUMNS, *XYWH_COLUMNS])}",
    matches=_matches,
    outline=BoxFile.table_outline,
    read=_read,
)
