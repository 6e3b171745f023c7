"""What the audit must know of the experiment."""

from pipeline_lib.settings.base import Settings
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.training import TrainingConfig


class ExpectedRow(Settings):
    """What the configuration says of a row of the tables."""

    trained: str
    """Model whose weights the row has."""
    training: TrainingConfig | None
    """What decided the training of these weights, but the data set and the seed. Null is for a model that the
    experiment does not train."""
    file: str | None = None
    """File of a model that the experiment does not train."""
    deviation: Deviation
    """What a deviation does to the prompted boxes."""
