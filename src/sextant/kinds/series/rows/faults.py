"""Messages about faulty rows of a series."""

import numpy as np
import pandas as pd

from ....errors import DataError
from ...tables import first_place


def refuse_missing(
    values: pd.Series, name: str, expected: str, action: str = "correct the row, or remove it"
) -> None:
    """Raise DataError for the first row without a value."""
    missing = values.isna().to_numpy()
    if missing.any():
        raise DataError(f"{first_place(values, missing)} has no `{name}`; {expected}; {action}")


def refuse(
    wrong: pd.Series | np.ndarray, values: pd.Series, where: str, action: str = "correct the row"
) -> None:
    """Raise DataError for the first row that is `wrong`."""
    mask = np.asarray(wrong, bool)
    if not mask.any():
        return
    value = values.iloc[int(mask.argmax())]
    text = repr(value) if isinstance(value, str) else str(value)
    raise DataError(f"{first_place(values, mask)} has {text} in {where}; {action}")
