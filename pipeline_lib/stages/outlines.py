"""Stage outlines: write the outlines of all masks in a form for another program, on request."""

from collections.abc import Sequence

import pandas as pd

from pipeline_lib.data.images import Pixels
from pipeline_lib.data.instances import Instances
from pipeline_lib.data.mask_formats.mask_format import MaskSet
from pipeline_lib.data.mask_formats.table import OUTLINES
from pipeline_lib.data.prompts import Prompts
from pipeline_lib.data.tables import read_table
from pipeline_lib.runtime.atomic import atomic
from pipeline_lib.settings.segment import OutlineForm


def outlines(*, prompts: str, iterations: Sequence[str], outlines: str, form: OutlineForm) -> None:
    """Write the outlines of the output masks.

    Args:
        prompts: Folder of the stage prompts.
        iterations: Parquet files of the stage segment, of all shards.
        outlines: Folder to write.
        form: Name of a format of `OUTLINES`.

    Raises:
        DataError: The form cannot represent the place of an object.
    """
    history = pd.concat([read_table(path) for path in iterations], ignore_index=True)
    masks = MaskSet(Instances.of(Prompts.read(prompts), history), Pixels().part, None)
    (format,) = (each for each in OUTLINES if each.name == form)
    with atomic(outlines) as unfinished:
        format.write(masks, unfinished)
