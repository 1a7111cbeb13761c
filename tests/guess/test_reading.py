"""Files of rows as `make new` reads them."""

from pathlib import Path

import pandas as pd
import pytest

from sextant.guess import reading

ROWS = [["n", "when", "rep", "amount"]]
ROWS += [[str(n), f"2024-01-{n + 1:02d}", "Bell", f"{n}.50"] for n in range(20)]
TOTAL = ["", "Grand total:", "", "200"]
EMPTY = ["", "", "", ""]


def written(folder: Path, name: str, rows: list[list[str]]) -> Path:
    path = folder / name
    if name.endswith(".xlsx"):
        pd.DataFrame(rows).replace("", None).to_excel(path, header=False, index=False)
    else:
        path.write_text("".join(";".join(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["sales.csv", "sales.xlsx"])
@pytest.mark.parametrize(
    ("end", "footer"),
    [([], None), ([TOTAL], 1), ([EMPTY, TOTAL], 1), ([TOTAL, TOTAL], 2)],
    ids=["rows", "total", "empty-total", "totals"],
)
def test_totals_below_the_rows_are_left_out(
    tmp_path: Path, name: str, end: list[list[str]], footer: int | None
) -> None:
    path = written(tmp_path, name, [*ROWS, *end])
    got = reading.read(path, {})
    assert len(got.rows) == 20 and got.form.get("footer") == footer
    assert len(got.doubts) == (footer is not None)
    if end:
        assert "left out as a total: Grand total:, 200 (FOOTER=0)" in got.doubts[0]
        assert len(reading.read(path, {"footer": 0}).rows) == 20 + (footer or 0)


@pytest.mark.parametrize(
    "last",
    [
        ["20", "2024-01-21", "Total", "3.50"],  # a full row
        ["20", "", "", "3.50"],  # an incomplete one
    ],
)
def test_a_last_row_that_is_no_total_stays(tmp_path: Path, last: list[str]) -> None:
    got = reading.read(written(tmp_path, "sales.csv", [*ROWS, last]), {})
    assert len(got.rows) == 21 and got.doubts == []
