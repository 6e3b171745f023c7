"""What is run, and what the tables show of it."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline_lib.settings.base import Amount, Different, Extent, Levels, List, Positive, Published, Settings, Whole

Names = Annotated[tuple[str, ...], List, Field(min_length=1), Different]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, le=2**32 - 1)], ...], List, Field(min_length=1), Different]
Average = Literal["object", "tile", "foreground"]


class TestedObjects(Settings):
    """The objects that masks are made and scored for."""

    split: Literal["validation", "test"]
    """Split whose objects are tested. Choose settings with `validation`, then look at `test` once: a change of `split`
    keeps the trained models."""
    objects: Annotated[int, Field(ge=1)] | None
    """Largest number of objects of each data set, evenly spaced. Null takes all objects."""


class Experiment(TestedObjects):
    """What is run, of what the other sections describe."""

    datasets: Names
    """Data sets, by their names in `datasets`. The tables have one section for each, in this order."""
    models: Names
    """Models, by their names in `models`. The tables have a row for each, in this order. The claims are about the
    models `sam`, `sam_p` and `proposed`."""
    seeds: Seeds
    """Seeds. Each seed repeats the training and the random boxes. The tables show the mean over seeds."""
    levels: Levels
    """Levels of deviation, in per cent, at which masks are predicted."""


class Claims(Settings):
    """Numbers for the words of the paper's claims."""

    max_loss: Amount
    """Claim C3: the mIoU that iteration (K) may lose at deviations of 0 to 20 %."""
    min_gain_ratio: Positive
    """Claim C2: how many times the gain of prompt tuning (P) iteration (K) must gain."""
    max_time_ratio: Extent
    """Claim C5: how many times as long a tile may take with iteration as without."""


class TableDataset(Settings):
    """A data set of the tables."""

    title: str
    """Title of its section."""
    published: Published | None
    """The paper's table of the same data, or null."""
    parts: Names
    """Names of its folds, or its own name if it has no folds."""


class TableModel(Settings):
    """A model of the tables."""

    title: str
    """Title of its row."""
    prompt_tuned: bool
    """Whether corner embeddings or a token were trained: the column P."""


class TablesConfig(TestedObjects):
    """What the tables and the report show, in their order."""

    datasets: dict[str, TableDataset]
    """Data sets by name. A data set in folds stands before its folds."""
    models: dict[str, TableModel]
    """Models by name."""
    levels: Levels
    """Levels of deviation, per cent."""
    seeds: Annotated[tuple[Whole, ...], List]
    """Seeds of the experiment."""
    miou: Average
    """How the mIoU is averaged."""
    claims: Claims
    """Numbers for the words of the claims."""
