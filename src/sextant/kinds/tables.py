"""Files of rows as data frames: CSV and other delimited text, Parquet, JSON records."""

import json
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from ..errors import DataError
from ..files import RECEIPT


def data_files(folder: Path) -> list[Path]:
    """Return the upstream files in data/raw/<name>/, sorted; raise DataError if it has none."""
    files = sorted(path for path in folder.glob("*") if path.name != RECEIPT)
    if not files:
        raise DataError(f"{folder} has no files; run `make pull`")
    return files


def check_columns(rows: pd.DataFrame, expected: Iterable[str], file_name: str) -> None:
    """Raise DataError if the table of a file lacks an expected column."""
    missing = [name for name in expected if name not in rows.columns]
    if missing:
        present = ", ".join(map(str, rows.columns))
        raise DataError(
            f"{file_name} lacks column {', '.join(missing)}; found {present}; correct the file, or"
            " use its column names in the conf"
        )


def check_input_columns(
    frame: pd.DataFrame, expected: Sequence[str], allowed: Sequence[str]
) -> None:
    """Raise DataError if input rows lack an expected column, or have one that is not allowed."""
    missing = [name for name in expected if name not in frame]
    surplus = [str(name) for name in frame if name not in allowed]
    faults = []
    if missing:
        faults.append(f"missing column {', '.join(missing)}")
    if surplus:
        faults.append(f"surplus column {', '.join(surplus)}")
    if faults:
        raise DataError(
            f"{'; '.join(faults)}; expected {', '.join(expected)}; name the columns as in training"
        )


def read_table(
    path: Path,
    delimiter: str,
    names: list[str] | None,
    unknown: str | None,
    expected: Sequence[str],
) -> pd.DataFrame:
    """Return the rows of one file, whatever columns it has.

    Text is split at `delimiter`; it has a header unless `names` are given. Only the empty cell and
    `unknown` are missing values. `expected` are the columns that messages name.
    Raises DataError for a file that does not exist, is empty, or is not a table.
    """
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        if path.suffix == ".json":
            return pd.DataFrame(json.loads(path.read_text(encoding="utf-8")))
        return _read_text(path, delimiter, names, unknown)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; name a file of rows") from None
    except pd.errors.EmptyDataError:
        raise DataError(
            f"{path.name} is empty; expected a table with {', '.join(expected)}"
        ) from None
    except (pd.errors.ParserError, pd.errors.ParserWarning, ValueError) as error:
        form = f" with delimiter {delimiter!r}"
        if path.suffix in (".parquet", ".json"):
            form = ""
        raise DataError(
            f"{path.name} is not a table{form}: {error}; correct it, or name another file"
        ) from None


def _read_text(
    path: Path, delimiter: str, names: list[str] | None, unknown: str | None
) -> pd.DataFrame:
    missing_marks = [""]
    if unknown:
        missing_marks.append(unknown)
    with warnings.catch_warnings():
        # pandas cuts rows that are longer than `names`, with a warning only.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            path,
            sep=delimiter,
            header=None if names else "infer",
            names=names,
            index_col=False,
            # pandas would also read NA, null and None as missing; they may be values, as Namibia's
            # country code is.
            keep_default_na=False,
            na_values=missing_marks,
            # Read in chunks, a column of mixed content would get a type per chunk.
            low_memory=False,
        )
