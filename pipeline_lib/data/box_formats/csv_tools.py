"""Read tables of programs that measure objects.

Each table is recognised by columns that no other program writes, and has its own rules.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from pipeline_lib.data.box_formats.box_file import BoxFile, first_text
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import IMAGE_SUFFIXES, Images
from pipeline_lib.data.box_formats.record import BoxRecord, corners, number, slice_number
from pipeline_lib.data.box_formats.rows import IMAGE, BoxColumns, Row, check_image_column, xywh
from pipeline_lib.errors import DataError

SUFFIXES = (".csv", ".tsv")
BOUNDS = BoxColumns(("bx", "by", "width", "height"), xywh)
CORNER = BoxColumns(("left", "top", "width", "height"), xywh)
ROI_LIST = BoxColumns(("x", "y", "width", "height"), xywh)
ROI_COLUMNS = {"name", "type", "x", "y", "width", "height", "points", "lwidth"}  # of the ROI manager's list
NO_AREA = {"point", "straight line", "line", "polyline", "freeline", "angle"}  # types of regions without an area


def _fiji_columns(file: BoxFile) -> BoxColumns | None:
    """Return the columns of boxes in a table of ImageJ; None if another program wrote the table.

    Only ImageJ calls a column BX, or the first column " ".
    """
    columns = set(file.table.columns)
    if columns >= ROI_COLUMNS:
        return ROI_LIST
    if columns >= set(BOUNDS.names):
        return BOUNDS
    from_imagej = file.text.lstrip("\ufeff").startswith((" ,", " \t", " ;"))
    return CORNER if from_imagej and columns >= set(CORNER.names) else None


def _is_fiji(file: BoxFile) -> bool:
    return _fiji_columns(file) is not None


def _read_fiji(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the bounding rectangle of each row. ImageJ counts slices from 1.

    Raises:
        DataError: A coordinate is not a whole number, because the image has a scale. Or the image is a stack, and the
            table does not name slices.
    """
    columns = _fiji_columns(file)
    assert columns is not None  # `_is_fiji` has checked it
    file.check_columns([*columns.names, "label", "slice", "frame", "z", "t", "pos"])
    names = [_fiji_image(first_text(row, ("label",)), images) for _, row in file.table.rows]
    if not any(images.shape_of(name) or Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names):
        names = [images.of_file(file.path)] * len(names)  # the labels are names of regions, not of images
    for image, (line, row) in zip(names, file.table.rows, strict=True):
        where = f"{file.path}:{line}"
        _check_pixels(row, columns, where)
        image = image or images.of_file(file.path)
        kind, name = first_text(row, ("type",)).lower(), first_text(row, ("name", ""))
        skip = f"a region of the type {kind} encloses no area" if kind in NO_AREA else ""
        yield BoxRecord(
            image=image,
            **columns.box(row),
            where=where,
            slice=_fiji_slice(row, image, images, where),
            name=name,
            track=name,
            skip=skip,
        )


def _fiji_image(label: str, images: Images) -> str:
    """Return the image of a label such as a.tif:0003-0100; empty if there is no label."""
    called = label.split(":")[0]
    return images.find(called) if called else ""


def _check_pixels(row: Row, columns: BoxColumns, where: str) -> None:
    for name in columns.names:
        value = number(row[name])
        if value == value and not value.is_integer():
            raise DataError(
                f"{where}: expected a whole number of pixels, but {name.upper()} is {row[name]}. The image has a "
                "scale, and the table is in its unit. In Fiji, remove the scale (Analyze > Set Scale) and measure "
                "again"
            )


def _fiji_slice(row: Row, image: str, images: Images, where: str) -> int:
    """Return the slice of a row, counted from 0. Numbers below 1 name no slice."""
    # In the list of the ROI manager, Pos is the slice of a plain stack, and Z and T are those of a hyperstack
    numbers = _positive(row, ("slice", "z", "frame", "t"), where) or _positive(row, ("pos",), where)
    if not numbers and images.shapes.get(image, (1,))[0] > 1:
        raise DataError(
            f"{where}: {image} is a stack, and the table names no slices. In Fiji, tick Stack position in Analyze > "
            "Set Measurements; for a list of the ROI manager, associate its regions with slices (More > Options)"
        )
    return max(numbers, default=1) - 1


def _positive(row: Row, columns: tuple[str, ...], where: str) -> list[int]:
    texts = [first_text(row, (name,)) for name in columns]
    return [number for number in (slice_number(text, where) for text in texts if text) if number > 0]


def _has(names: set[str], file: BoxFile) -> bool:
    return names <= set(file.table.columns)


def _read_rows(
    file: BoxFile, images: Images, columns: BoxColumns, image: tuple[str, ...], name: tuple[str, ...]
) -> Iterator[BoxRecord]:
    """Yield the box of each row.

    Args:
        file: The table.
        images: The images of the set.
        columns: Columns of the box.
        image: Columns that can name the image.
        name: Columns that can number the object.
    """
    file.check_columns([*columns.names, *image, *name])
    check_image_column(file, image)
    for line, row in file.table.rows:
        called = first_text(row, image)
        yield BoxRecord(
            image=images.find(called) if called else images.of_file(file.path),
            **columns.box(row),
            where=f"{file.path}:{line}",
            name=first_text(row, name),
            called=called,
        )


def _yxyx(y0: float, x0: float, y1: float, x1: float) -> dict[str, Any]:
    return corners(x0, y0, x1, y1)


def _from_half(x: float, y: float, width: float, height: float) -> dict[str, Any]:
    """Return a box of MATLAB, where the first pixel extends from 0.5 to 1.5."""
    return xywh(x - 0.5, y - 0.5, width, height)


def _regionprops_columns(file: BoxFile) -> BoxColumns | None:
    """Return the columns of the boxes of `regionprops_table`, with either usual separator; None if there are none."""
    for mark in "-_":
        names = [f"bbox{mark}{number}" for number in range(6)]
        if set(names[:4]) <= set(file.table.columns):
            return BoxColumns((names[0], names[1], names[2], names[3]), _yxyx)
    return None


def _read_regionprops(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    columns = _regionprops_columns(file)
    assert columns is not None  # `matches` has checked it
    if any(name.startswith("bbox") and name.endswith("5") for name in file.table.columns):
        raise DataError(f"{file.path}: expected boxes with two dimensions, found three. Measure each slice alone")
    return _read_rows(file, images, columns, IMAGE, ("label",))


MATLAB_BOX = BoxColumns(("boundingbox_1", "boundingbox_2", "boundingbox_3", "boundingbox_4"), _from_half)
PREFIX = "areashape_boundingbox"
CELLPROFILER_BOX = BoxColumns(
    (f"{PREFIX}minimum_x", f"{PREFIX}minimum_y", f"{PREFIX}maximum_x", f"{PREFIX}maximum_y"), corners
)


def _read_cellprofiler(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    files = tuple(name for name in file.table.columns if name.startswith("filename_"))
    numbers = {first_text(row, ("imagenumber",)) for _, row in file.table.rows}
    if not files and len(numbers) > 1:
        raise DataError(
            f"{file.path}: ImageNumber has {len(numbers)} values, but no column names the images. In "
            "ExportToSpreadsheet, add the file name of the image to the object data file"
        )
    return _read_rows(file, images, CELLPROFILER_BOX, files[:1], ("objectnumber",))


def _tool(title: str, program: str, content: str, matches: Any, read: Any) -> BoxFormat:
    return BoxFormat(
        name="csv",
        title=title,
        program=program,
        suffixes=SUFFIXES,
        content=content,
        matches=matches,
        outline=BoxFile.table_outline,
        read=read,
    )


FIJI_TABLE = _tool("Fiji table", "Fiji, ImageJ", "the columns BX,BY,Width,Height", _is_fiji, _read_fiji)
REGIONPROPS = _tool(
    "regionprops table",
    "scikit-image",
    "the columns bbox-0,bbox-1,bbox-2,bbox-3",
    lambda file: _regionprops_columns(file) is not None,
    _read_regionprops,
)
MATLAB = _tool(
    "MATLAB table",
    "MATLAB",
    "the columns BoundingBox_1 to BoundingBox_4",
    partial(_has, set(MATLAB_BOX.names)),
    partial(_read_rows, columns=MATLAB_BOX, image=IMAGE, name=()),
)
CELLPROFILER = _tool(
    "CellProfiler table",
    "CellProfiler",
    "the columns AreaShape_BoundingBoxMinimum_X and so on",
    partial(_has, set(CELLPROFILER_BOX.names)),
    _read_cellprofiler,
)
TOOLS = (FIJI_TABLE, REGIONPROPS, MATLAB, CELLPROFILER)
