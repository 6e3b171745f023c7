"""Read and write the manifest of a backbone: a checkpoint that fits its network, as the stage `weights` has checked."""

from dataclasses import dataclass
from pathlib import Path

from pipeline_lib.data.tables import read_json
from pipeline_lib.errors import intact
from pipeline_lib.runtime.hashing import file_digest


@dataclass(frozen=True)
class Backbone:
    """A checkpoint that fits its network."""

    name: str
    checkpoint: str  # absolute path
    digest: str  # digest of the bytes of the file
    size: int  # size of the file, bytes
    image_size: int  # longest side of the input of the network, pixels
    normalisation: str  # how grey values of a tile are normalised, in words

    @classmethod
    def read(cls, path: str | Path) -> "Backbone":
        """Read the manifest at `path`.

        Raises:
            DataError: The file is missing or damaged.
        """
        with intact(path):
            return cls(**read_json(path))

    @classmethod
    def of(cls, name: str, checkpoint: Path, image_size: int, normalisation: str) -> "Backbone":
        """Return the manifest of a checkpoint. The file is hashed here, once for all jobs."""
        digest, size = file_digest(checkpoint), checkpoint.stat().st_size
        return cls(name, str(checkpoint), digest, size, image_size, normalisation)

    def is_unchanged(self, since: str | Path) -> bool:
        """Return whether the checkpoint is still the file that the manifest at `since` records.

        The file is hashed again only if its time is later than that of the manifest.
        """
        checkpoint = Path(self.checkpoint)
        if not checkpoint.exists() or checkpoint.stat().st_size != self.size:
            return False
        older = checkpoint.stat().st_mtime_ns <= Path(since).stat().st_mtime_ns
        return older or file_digest(checkpoint) == self.digest
