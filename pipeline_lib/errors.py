"""What can be wrong with the data a user brings.

DataError
├── AuditError             results that are not those of their row, or a test on what was trained on
├── WeightsError           a checkpoint that does not fit its backbone
├── DownloadError          a file that could not be fetched
└── StaleEmbeddingsError   cached embeddings of other images, weights or settings
"""


class DataError(ValueError):
    """An input that cannot be used; the message names the file, what was expected and what came."""


class AuditError(DataError):
    """An experiment that is not what its tables would say; the message begins with the check's name."""


class WeightsError(DataError):
    """A checkpoint whose tensors are not those of the backbone."""


class DownloadError(DataError):
    """A file that could not be fetched, or is not the one that was asked for."""


class StaleEmbeddingsError(DataError):
    """Embeddings that were computed from other images, weights or settings than those at hand."""
