"""Name the classes of objects after the labels of their boxes."""

from pipeline_lib.data.prompts import Prompts

UNNAMED = "object"  # the class of boxes without a label


def class_names(prompts: Prompts) -> list[str]:
    """Return the names of all classes, sorted."""
    return sorted({label or UNNAMED for label in prompts.boxes["label"]})


def class_name(prompts: Prompts, number: int) -> str:
    """Return the name of the class of a box."""
    return str(prompts.boxes.at[number, "label"]) or UNNAMED
