"""Read regions of Fiji and ImageJ: a `.roi` file, or the `.zip` of a ROI manager, with the name of the image."""

from collections.abc import Iterator

import roifile

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, corners

STARTS = (b"Iout", b"PK", b"II*\0", b"MM\0*")  # first bytes of a region, an archive, and a TIFF that holds regions

AREAS = {  # types of regions that enclose an area
    roifile.ROI_TYPE.POLYGON,
    roifile.ROI_TYPE.RECT,
    roifile.ROI_TYPE.OVAL,
    roifile.ROI_TYPE.FREEHAND,
    roifile.ROI_TYPE.TRACED,
}


def _matches(file: BoxFile) -> bool:
    return file.start.startswith(STARTS)


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the bounding box of each region. Points and lines are skipped.

    The slice is the position in the stack, which Fiji counts from 1. Frames of a time series are slices too.
    """
    image, content = images.of_file(file.path), roifile.roiread(file.path)
    for index, roi in enumerate(content if isinstance(content, list) else [content]):
        box = corners(roi.left, roi.top, roi.right, roi.bottom)
        if roi.subpixelrect:
            box = corners(roi.xd, roi.yd, roi.xd + roi.widthd, roi.yd + roi.heightd)
        yield BoxRecord(
            image=image,
            **box,
            where=f"{file.path}: region {index}",
            slice=_slice(roi),
            name=roi.name or "",
            track=roi.name or "",
            skip="" if roi.roitype in AREAS else f"a region of the type {roi.roitype.name} encloses no area",
        )


def _slice(roi: roifile.ImagejRoi) -> int | None:
    """Return the slice of a region, counted from 0; None if the region has no position."""
    position = max(roi.z_position, roi.t_position, roi.position)
    return position - 1 if position > 0 else None


FIJI = BoxFormat(
    name="fiji",
    title="Fiji regions",
    program="Fiji, ImageJ",
    suffixes=(".roi", ".zip"),
    content="a region, or an archive of regions",
    matches=_matches,
    outline=BoxFile.bytes_outline,
    read=_read,
)
