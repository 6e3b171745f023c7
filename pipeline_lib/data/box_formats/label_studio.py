"""Exports of Label Studio in its own JSON, JSON-MIN and CSV. LooseBox recognises them, and does not read them yet.

https://labelstud.io/guide/task_format
"""

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat

TASK_KEYS = {"annotations", "predictions", "completions"}  # beside `data` in an entry of JSON
FLAT_KEYS = {"annotation_id", "annotator"}  # of an entry of JSON-MIN, and columns of CSV


def _matches(file: BoxFile) -> bool:
    if file.path.suffix.lower() == ".csv":
        return set(file.table.columns) >= FLAT_KEYS
    keys = file.entry_keys | file.json_keys
    return keys >= FLAT_KEYS or ("data" in keys and not keys.isdisjoint(TASK_KEYS))


LABEL_STUDIO = BoxFormat(
    name="label_studio",
    title="Label Studio",
    program="Label Studio",
    suffixes=(".json", ".csv"),
    content="a JSON list of tasks with the keys data and annotations",
    matches=_matches,
    outline=BoxFile.json_outline,
    instead="export COCO from Label Studio",
)
