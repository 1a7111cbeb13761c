"""Files of rows as data frames: CSV and other delimited text, Parquet, JSON records."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ..errors import DataError


def read_table(
    path: Path,
    delimiter: str,
    names: list[str] | None,
    unknown: str | None,
    expected: Sequence[str],
) -> pd.DataFrame:
    """One file of rows, whatever columns it has.

    Text is split at `delimiter`; it has a header unless `names` are given. Only the empty cell and
    `unknown` are missing values. `expected` are the columns that messages name.
    Raises DataError for a file that is missing, empty or no table.
    """
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".json":
            return pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
        with warnings.catch_warnings():
            # pandas only warns of rows that are longer than `names`, and cuts them.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                path,
                sep=delimiter,
                header=None if names else "infer",
                names=names,
                index_col=False,
                keep_default_na=False,
                na_values=["", *([unknown] if unknown else [])],
                low_memory=False,
            )
    except FileNotFoundError:
        raise DataError(f"{path} is not there; name a file of rows") from None
    except pd.errors.EmptyDataError:
        raise DataError(
            f"{path.name} is empty; expected a table with {', '.join(expected)}"
        ) from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError) as error:
        form = "" if path.suffix in (".parquet", ".json") else f" with delimiter {delimiter!r}"
        raise DataError(
            f"{path.name} is no table{form}: {error}; correct it, or name another file"
        ) from None
