"""LabelMe: a JSON file for each image. LooseBox recognises it, and does not read it yet."""

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat


def _matches(file: BoxFile) -> bool:
    return "shapes" in file.json_keys and not file.json_keys.isdisjoint({"imagePath", "imageHeight", "flags"})


LABELME = BoxFormat(
    name="labelme",
    title="LabelMe",
    program="labelme, X-AnyLabeling",
    suffixes=(".json",),
    content="a JSON object with the keys shapes and imagePath",
    matches=_matches,
    outline=BoxFile.json_outline,
    instead="export COCO from X-AnyLabeling, or convert the files with labelme's script `labelme2coco.py`",
)
