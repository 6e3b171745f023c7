"""Read tables and JSON that stages wrote."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline_lib.errors import intact


def read_table(path: str | Path, **options: Any) -> pd.DataFrame:
    """Read a Parquet or CSV table that a stage wrote.

    Args:
        path: The file.
        options: Options of the reader of pandas.

    Raises:
        DataError: The file is missing or damaged.
    """
    with intact(path):
        table: pd.DataFrame = (pd.read_parquet if Path(path).suffix == ".parquet" else pd.read_csv)(path, **options)
    return table


def read_json(path: str | Path) -> Any:
    """Read a JSON file that a stage wrote.

    Raises:
        DataError: The file is missing or damaged.
    """
    with intact(path):
        return json.loads(Path(path).read_text(encoding="utf-8"))
