"""Settings that the audit compares with the results."""

from pipeline_lib.settings.base import Settings
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.training import TrainingConfig


class ExpectedRow(Settings):
    """What the configuration says about a row of the tables."""

    trained: str
    """Model whose weights the row uses."""
    training: TrainingConfig | None
    """What decides the training of these weights, except the data set and the seed. Null is for a model that the
    experiment does not train."""
    file: str | None = None
    """File of a model that the experiment does not train."""
    deviation: Deviation
    """What a deviation does to the prompted boxes."""
