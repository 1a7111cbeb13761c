"""The format of days, found in their texts."""

from datetime import UTC, datetime

import cases

from sextant.guess import dates
from sextant.kinds.series.rows import iso_day


@cases.each(
    ("values", "format_", "iso"),
    [
        (["2020-01-31", "2020-02-01"], "%Y-%m-%d", "2020-01-31"),
        (["1/31/2020", "2/1/2020"], "%m/%d/%Y", "2020-01-31"),
        (["31.01.2020", "01.02.2020"], "%d.%m.%Y", "2020-01-31"),
        (["Jan 31, 2020", "Feb 01, 2020"], "%b %d, %Y", "2020-01-31"),
        (["31-Jan-20", "01-Feb-20"], "%d-%b-%y", "2020-01-31"),
        (["20200131", "20200201"], "%Y%m%d", "2020-01-31"),
        (["2020-01-31 16:00:00-05:00", "2020-07-01 16:00:00-04:00"], "%Y-%m-%d %H:%M:%S%z",
         "2020-01-31"),
    ],
)  # fmt: skip
def test_a_format_is_found(values: list[str], format_: str, iso: str) -> None:
    found = dates.date_format(values)
    assert found is not None and found.format == format_
    assert iso_day(values[0], format_) == iso
    assert "%H" not in dates.day_part(format_)


def test_a_quick_look_at_a_text_spares_no_format_that_fits() -> None:
    day = datetime(2021, 3, 9, 17, 5, 8, 73, tzinfo=UTC)
    for part in dates.DAYS:
        for time in dates.TIMES:
            for zone in dates.ZONES if time else ("",):
                text = day.strftime(f"{part}{time}{zone}")
                for written in (text, text.lower(), text.replace(" ", "  "), f"{text[:-1]}"):
                    if dates._parsed(written, f"{part}{time}{zone}"):
                        assert f"{part}{time}{zone}" in dates._candidates(written)


def test_of_two_formats_the_one_in_which_days_are_in_order_is_taken() -> None:
    days = [f"{day}/{month}/2020" for month in (1, 2, 3) for day in range(1, 13)]
    found = dates.date_format(days)
    assert found is not None and found.format == "%d/%m/%Y" and found.other is None
    unclear = dates.date_format(["1/1/2020", "2/2/2020"])
    assert unclear is not None and unclear.other == "%d/%m/%Y"


@cases.each("values", [[], ["1.5", "2.5"], ["cat"], ["15634602"], ["12345678901"]])
def test_what_is_no_day_has_no_format(values: list[str]) -> None:
    assert dates.date_format(values) is None


def test_seconds_since_1970() -> None:
    assert dates.is_unix_seconds(["881250949", "1577836800"])
    assert dates.is_unix_seconds(["1577836800000"], 1000)
    assert not dates.is_unix_seconds(["1577836800", "5"])
