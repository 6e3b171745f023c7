"""CVAT's own XML, for images and for video. LooseBox recognises it, and does not read it yet.

https://docs.cvat.ai/docs/other/xml_format
"""

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat

CVAT = BoxFormat(
    name="cvat",
    title="CVAT",
    program="CVAT",
    suffixes=(".xml",),
    content="the XML element <annotations>",
    matches=lambda file: file.xml.tag == "annotations",
    outline=BoxFile.xml_outline,
    instead="export COCO 1.0 from CVAT",
)
