"""Pascal VOC: an XML file for each image.

Corners are pixels that belong to the box, counted from 1, as in detectron2's `pascal_voc.py`.
"""

from collections.abc import Iterator

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, corners, number


def _matches(file: BoxFile) -> bool:
    return file.xml.tag == "annotation" or file.xml.find(".//object/bndbox") is not None


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    image = images.find(file.xml.findtext("filename") or file.path.stem)
    for index, entry in enumerate(file.xml.iter("object")):
        x0, y0, x1, y1 = (number(entry.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
        where, label = f"{file.path}: object {index}", entry.findtext("name") or ""
        yield BoxRecord(image=image, **corners(x0 - 1, y0 - 1, x1, y1), where=where, label=label)


VOC = BoxFormat(
    name="voc",
    title="Pascal VOC",
    program="labelImg, CVAT, Label Studio",
    suffixes=(".xml",),
    content="the XML element <annotation>",
    matches=_matches,
    outline=BoxFile.xml_outline,
    read=_read,
)
