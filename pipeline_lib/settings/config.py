"""Settings of a whole configuration, with all its sections."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from pipeline_lib.settings.backbone import BackboneChoice, EmbedConfig
from pipeline_lib.settings.base import Different, List, Name, Positive, Settings, Title, Words
from pipeline_lib.settings.boxes import Deviation
from pipeline_lib.settings.datasets import Dataset
from pipeline_lib.settings.experiment import Average, Claims, Experiment
from pipeline_lib.settings.export import ExportForm
from pipeline_lib.settings.inference import RefineConfig
from pipeline_lib.settings.model import Adapter, Part, Token
from pipeline_lib.settings.segment import Overlay, PredictSet, SegmentConfig, Text
from pipeline_lib.settings.training import TrainSection

Results = Annotated[
    str,
    Field(pattern=r"^[^~{}<>\x00-\x1f][^{}<>\x00-\x1f]{0,199}$"),
    Words("the path of a folder, at most 200 characters without `{}<>`, that does not begin with `~`"),
]
SetName = Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$"), Words("a name of letters, digits, `_` and `-`")]


class BorrowedModel(Settings):
    """A row of the tables that uses the weights of another model."""

    title: Title
    """Title of its row."""
    weights_of: str
    """Model whose weights it uses. That model must be one that is trained, or one with a `file`."""
    deviation: Overlay = Field(default_factory=dict)
    """Keys of `deviation` that differ for this model."""
    refine: Overlay = Field(default_factory=dict)
    """Keys of `refine` that differ for this model. All models share `precision`."""


class GivenModel(Settings):
    """A row of the tables that uses the weights of a file. It is not trained."""

    title: Title
    """Title of its row."""
    file: Text
    """File of the model. `shipped` is the model that comes with LooseBox."""
    deviation: Overlay = Field(default_factory=dict)
    """Keys of `deviation` that differ for this model."""
    refine: Overlay = Field(default_factory=dict)
    """Keys of `refine` that differ for this model. All models share `precision`."""


class Model(Settings):
    """A row of the tables that is trained."""

    title: Title
    """Title of its row."""
    trains: Annotated[tuple[Part, ...], List, Field(min_length=1), Different]
    """Parts of the network that are trained. The tables tick P if they include corner embeddings or a token."""
    mix: str
    """Mix of training boxes, by its name in `train.mixes`."""
    trained_on: Annotated[dict[Name, Positive], Field(min_length=1)] | None = None
    """Data sets that one model is trained on together, by name, each with its share of the tiles of an epoch. The model
    is tested on every data set of the experiment. Null trains one model on each data set of the experiment."""
    starts_from: Text | None = None
    """File of a model whose weights the training starts from; `shipped` is the model that comes with LooseBox. Null
    starts from the backbone's own decoder."""
    token: Overlay = Field(default_factory=dict)
    """Keys of `token` that differ for this model."""
    adapter: Overlay = Field(default_factory=dict)
    """Keys of `adapter` that differ for this model."""
    deviation: Overlay = Field(default_factory=dict)
    """Keys of `deviation` that differ for this model."""
    train: Overlay = Field(default_factory=dict)
    """Keys of `train` that differ for this model. All models share `mixes`, `precision` and the two
    `validation_` keys."""
    refine: Overlay = Field(default_factory=dict)
    """Keys of `refine` that differ for this model. All models share `precision`."""


def _row(value: Any) -> str:
    for kind, key, tag in ((BorrowedModel, "weights_of", "borrowed"), (GivenModel, "file", "given")):
        if isinstance(value, kind) or (isinstance(value, dict) and key in value):
            return tag
    return "trained"


Row = Annotated[
    Annotated[Model, Tag("trained")] | Annotated[BorrowedModel, Tag("borrowed")] | Annotated[GivenModel, Tag("given")],
    Discriminator(_row),
]


class Config(Settings):
    """A configuration."""

    results: Results
    """Folder of all results of the experiment."""
    data: Text
    """Folder of your own files. A relative `source.folder` of a data set is a path in it."""
    experiment: Experiment
    """What is run: data sets, models, seeds and levels."""
    datasets: Annotated[dict[Name, Dataset], Field(min_length=1)]
    """Data sets, by name."""
    backbone: BackboneChoice
    """The network and its weights."""
    embed: EmbedConfig
    """How embeddings are computed and stored."""
    deviation: Deviation
    """What a deviation does to a box, in training and in the test."""
    token: Token
    """The deviation token of models that train one."""
    adapter: Adapter
    """The image adapter of models that train one."""
    models: Annotated[dict[Name, Row], Field(min_length=1)]
    """Models, by name. With `like: NAME`, a model copies the keys that it does not set from another model."""
    train: TrainSection
    """How models are trained."""
    refine: RefineConfig
    """How masks are predicted and iterated."""
    predict: dict[SetName, PredictSet]
    """Sets of your own images and boxes, by name."""
    segment: SegmentConfig
    """How sets of your own images are segmented."""
    export: Annotated[tuple[ExportForm, ...], List, Field(min_length=1), Different]
    """Forms of an exported model. `onnx` and `transformers` need an extra."""
    miou: Average
    """What an mIoU averages: the IoU of each `object` (our reading of the paper), the mean IoU of the objects of each
    `tile`, or the IoU of the `foreground` of each tile, which is the union of its objects."""
    claims: Claims
    """Numbers that the paper's claims leave open."""
