"""Recognise formats that LooseBox cannot read, to say in the error what to export instead."""

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat


def _json(title: str, program: str, keys: set[str], instead: str) -> BoxFormat:
    return BoxFormat(
        name=program.lower(),
        title=title,
        program=program,
        suffixes=(".json",),
        content=f"a JSON object with the keys {', '.join(sorted(keys))}",
        matches=lambda file: file.json_keys >= keys,
        outline=BoxFile.json_outline,
        instead=instead,
    )


SUPERVISELY = _json(
    "Supervisely", "Supervisely", {"description", "objects", "size", "tags"}, "export COCO from Supervisely"
)
VOTT = _json("VoTT", "VoTT", {"asset", "regions", "version"}, "export CSV or Pascal VOC from VoTT")
