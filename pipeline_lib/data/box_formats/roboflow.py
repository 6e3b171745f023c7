"""Read the answer of Roboflow's inference for an image. x and y are the centre of a box, in pixels."""

from collections.abc import Iterator

from pipeline_lib.data.box_formats.box_file import BoxFile
from pipeline_lib.data.box_formats.box_format import BoxFormat
from pipeline_lib.data.box_formats.images_by_name import Images
from pipeline_lib.data.box_formats.record import BoxRecord, number
from pipeline_lib.data.box_formats.rows import from_centre


def _read(file: BoxFile, images: Images) -> Iterator[BoxRecord]:
    """Yield the box of each prediction.

    Raises:
        DataError: The image has another size.
    """
    image, size = images.of_file(file.path), file.json["image"]
    images.check_size(image, size["width"], size["height"], str(file.path))
    for index, entry in enumerate(file.json["predictions"]):
        x, y, width, height = (number(entry[key]) for key in ("x", "y", "width", "height"))
        yield BoxRecord(
            image=image,
            **from_centre(x, y, width, height),
            where=f"{file.path}: prediction {index}",
            label=str(entry.get("class", "")),
            score=number(entry.get("confidence")),
        )


ROBOFLOW = BoxFormat(
    name="roboflow",
    title="Roboflow predictions",
    program="Roboflow's inference",
    suffixes=(".json",),
    content="a JSON object with the keys predictions and image",
    matches=lambda file: {"predictions", "image"} <= file.json_keys and isinstance(file.json["image"], dict),
    outline=BoxFile.json_outline,
    read=_read,
)
