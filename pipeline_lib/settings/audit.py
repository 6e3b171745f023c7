"""What the audit must know of the experiment."""

from pipeline_lib.settings.base import Settings
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.training import TrainingConfig


class ExpectedRow(Settings):
    """What the configuration says of a row of the tables."""

    trained: str
    """Model whose weights the row has."""
    training: TrainingConfig
    """What decided the training of these weights, but the data set and the seed."""
    deviation: Deviation
    """What a deviation does to the prompted boxes."""
