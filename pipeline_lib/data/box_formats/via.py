"""Files of the VGG Image Annotator (VIA). LooseBox recognises them, and does not read them yet."""

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat

PROJECT_3 = {"project", "config", "view", "metadata"}  # keys of a project of VIA 3
IMAGE_KEYS = {"filename", "size", "regions"}  # of each image, in annotations of VIA 1 and 2


def _matches(file: BoxFile) -> bool:
    if file.path.suffix.lower() == ".csv":
        return "region_shape_attributes" in file.table.columns
    if "_via_img_metadata" in file.json_keys or file.json_keys >= PROJECT_3:
        return True
    images = list(file.json.values()) if file.json_keys else []
    return bool(images) and isinstance(images[0], dict) and set(images[0]) >= IMAGE_KEYS


VIA = BoxFormat(
    name="via",
    title="VIA",
    program="VGG Image Annotator",
    suffixes=(".json", ".csv"),
    content="a JSON object with the key _via_img_metadata",
    matches=_matches,
    outline=BoxFile.json_outline,
    instead="export the annotations from VIA in COCO format",
)
