"""Tables and JSON that stages have written, read by other stages."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline_lib.errors import intact


def read_table(path: str | Path, **options: Any) -> pd.DataFrame:
    """A Parquet or CSV table that a stage has written.

    Raises:
        DataError: it is missing or damaged.
    """
    with intact(path):
        table: pd.DataFrame = (pd.read_parquet if Path(path).suffix == ".parquet" else pd.read_csv)(path, **options)
    return table


def read_json(path: str | Path) -> Any:
    """What a stage has written as JSON.

    Raises:
        DataError: it is missing or damaged.
    """
    with intact(path):
        return json.loads(Path(path).read_text(encoding="utf-8"))
