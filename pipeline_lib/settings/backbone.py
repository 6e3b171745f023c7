"""Settings of the backbone, and of the embeddings that it computes."""

from typing import Literal

from pipeline_lib.settings.base import Count, PrecisionChoice, Settings

BackboneName = Literal["micro", "litemedsam", "mobile_sam", "vit_b", "vit_b_em", "vit_l", "vit_h"]
StoredType = Literal["float32", "float16"]


class BackboneChoice(Settings):
    """The network and its weights."""

    name: BackboneName
    """Name of the network. `micro` and `litemedsam` come with the installation, the others are downloaded."""
    checkpoint: str | None
    """File with your own weights for the same network. Null uses the shipped or released weights."""


class EmbedConfig(Settings):
    """How embeddings are computed and stored."""

    precision: PrecisionChoice
    """Precision of the encoder's matrix products. `auto` uses bfloat16 if the processor or GPU has units for it, and
    float32 otherwise."""
    dtype: StoredType
    """Type of the stored embeddings. `float16` halves their size on disk."""
    batch: Count
    """Number of tiles in a call of the encoder."""
