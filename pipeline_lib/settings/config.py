"""All sections of a configuration."""

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from pipeline_lib.settings.backbone import BackboneChoice, EmbedConfig
from pipeline_lib.settings.base import Different, List, Name, Settings, Title, Words
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
    """A row of the tables with the weights of another model."""

    title: Title
    """Title of its row."""
    weights_of: str
    """Model whose weights it has. That model must be trained itself."""
    deviation: Overlay = Field(default_factory=dict)
    """Keys of `deviation` that differ for this model."""
    refine: Overlay = Field(default_factory=dict)
    """Keys of `refine` that differ for this model. `precision` is one for all models."""


class Model(Settings):
    """A row of the tables that is trained."""

    title: Title
    """Title of its row."""
    trains: Annotated[tuple[Part, ...], List, Field(min_length=1), Different]
    """Parts of the network that are trained. The tables tick P if corner embeddings or a token are among them."""
    mix: str
    """Mix of training boxes, by its name in `train.mixes`."""
    token: Overlay = Field(default_factory=dict)
    """Keys of `token` that differ for this model."""
    adapter: Overlay = Field(default_factory=dict)
    """Keys of `adapter` that differ for this model."""
    deviation: Overlay = Field(default_factory=dict)
    """Keys of `deviation` that differ for this model."""
    train: Overlay = Field(default_factory=dict)
    """Keys of `train` that differ for this model. `mixes`, `precision` and the two `validation_` keys are one for all
    models."""
    refine: Overlay = Field(default_factory=dict)
    """Keys of `refine` that differ for this model. `precision` is one for all models."""


def _row(value: Any) -> str:
    borrowed = isinstance(value, BorrowedModel) or (isinstance(value, dict) and "weights_of" in value)
    return "borrowed" if borrowed else "trained"


Row = Annotated[Annotated[Model, Tag("trained")] | Annotated[BorrowedModel, Tag("borrowed")], Discriminator(_row)]


class Config(Settings):
    """A configuration."""

    results: Results
    """Folder of everything that the experiment makes."""
    data: Text
    """Folder of your own files. The `source.folder` of a data set is sought there."""
    experiment: Experiment
    """What is run, of what the sections below describe."""
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
    """Models, by name. With `like: NAME`, a model takes the keys of another one for those that it does not set."""
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
    """What counts alike in an mIoU: each object (our reading of the paper), each `tile` with the mean of its objects,
    or the `foreground` of each tile, which is all of its objects together."""
    claims: Claims
    """Numbers for the words of the paper's claims."""
