"""Settings of the experiment, and of the tables about it."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.settings.base import Amount, Different, Extent, Levels, List, Positive, Published, Settings, Whole

Names = Annotated[tuple[str, ...], List, Field(min_length=1), Different]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...], List, Field(min_length=1), Different]
Average = Literal["object", "tile", "foreground"]


class TestedObjects(Settings):
    """The objects for which masks are predicted and scored."""

    split: Literal["validation", "test"]
    """Split whose objects are tested. Choose settings with `validation`, and use `test` once at the end. If you change
    `split`, models are not trained again."""
    objects: Annotated[int, Field(ge=1)] | None
    """Largest number of objects of each data set, evenly spaced. Null uses all objects."""


class Experiment(TestedObjects):
    """What is run: data sets, models, seeds and levels. The other sections describe them."""

    datasets: Names
    """Names of data sets in `datasets`. The tables have a section for each, in this order."""
    models: Names
    """Names of models in `models`. The tables have a row for each, in this order. The claims are about the models
    `sam`, `sam_p` and `proposed`."""
    seeds: Seeds
    """Seeds. The training and the random boxes are repeated with each seed. The tables show the mean over seeds."""
    levels: Levels
    """Levels of deviation at which masks are predicted, per cent."""


class Claims(Settings):
    """Numbers that the paper's claims leave open."""

    max_loss: Amount
    """Claim C3: largest mIoU that iteration (K) can lose at deviations of 0 to 20 %."""
    min_gain_ratio: Positive
    """Claim C2: smallest ratio of the gain of iteration (K) to the gain of prompt tuning (P)."""
    max_time_ratio: Extent
    """Claim C5: largest ratio of the time for a tile with iteration to the time without."""


class TableDataset(Settings):
    """A data set in the tables."""

    title: str
    """Title of its section."""
    published: Published | None
    """The paper's table of the same data, or null."""
    parts: Names
    """Names of its folds, or its own name if it has none."""


class TableModel(Settings):
    """A model in the tables."""

    title: str
    """Title of its row."""
    prompt_tuned: bool
    """Whether corner embeddings or a token were trained: the column P."""


class TablesConfig(TestedObjects):
    """What the tables and the report show, in their order."""

    datasets: dict[str, TableDataset]
    """Data sets by name. A data set with folds comes before its folds."""
    models: dict[str, TableModel]
    """Models by name."""
    levels: Levels
    """Levels of deviation, per cent."""
    seeds: Annotated[tuple[Whole, ...], List]
    """Seeds of the experiment."""
    miou: Average
    """How the mIoU is averaged."""
    claims: Claims
    """Numbers that the paper's claims leave open."""
