"""Settings of a model: its shape, and the parts that are trained."""

from typing import Annotated, Literal

from pipeline_lib.settings.base import Count, List, Settings

Part = Literal["mask_decoder", "corner_embeddings", "deviation_token", "image_adapter"]
PROMPT_PARTS = ("corner_embeddings", "deviation_token")  # parts that encode prompts: the column P of the tables


class Token(Settings):
    """The deviation token of models that train one."""

    width: Count
    """Length of a vector, before the linear layer."""
    count: Count
    """Number of vectors. The paper has one."""


class Adapter(Settings):
    """The image adapter of models that train one: two convolutions over the encoder's embedding, added to it."""

    width: Count
    """Channels between the two convolutions."""


class ModelConfig(Settings):
    """The shape of a model, and which of its parts are trained."""

    trains: Annotated[tuple[Part, ...], List]
    """Parts that are trained. All others stay frozen."""
    token: Token | None
    """Shape of the deviation token. Null is for a model without one."""
    adapter: Adapter | None = None
    """Shape of the image adapter. Null is for a model without one."""
