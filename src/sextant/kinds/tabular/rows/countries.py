"""The countries that a column names, by their numeric codes of ISO 3166-1."""

import functools
import logging
from collections.abc import Iterable
from importlib import resources
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from ...levels import text_of

if TYPE_CHECKING:
    from country_converter import CountryConverter

LIBRARY = "country_converter"
NO_COUNTRY = "none"


class Countries(NamedTuple):
    """What the names of a column are: names by code, in the order of the rows, and the others."""

    names: dict[str, list[str]]  # of each row with this country, so that a name may be repeated
    unknown: list[str]  # each once

    @property
    def repeated(self) -> dict[str, list[str]]:
        """The names of each country that has several rows."""
        return {code: names for code, names in self.names.items() if len(names) > 1}


def countries(names: Iterable[object]) -> Countries:
    """Sort names by the country that they mean; missing ones are passed over."""
    texts = [text_of(name) for name in names]
    by_code: dict[str, list[str]] = {}
    unknown: dict[str, None] = {}
    for text, code in zip(texts, codes(texts), strict=True):
        if text is None:
            continue
        if code is None:
            unknown[text] = None
        else:
            by_code.setdefault(code, []).append(text)
    return Countries(by_code, list(unknown))


def codes(names: Iterable[object]) -> list[str | None]:
    """The code of the country that each name means, three digits as text.

    A name may be in any usual English form, or a code of ISO 3166-1 itself. It is None for a name
    that is no country's, such as that of a continent, and for a missing one.
    """
    texts = [text_of(name) for name in names]
    distinct = sorted({text for text in texts if text is not None})
    if not distinct:
        return [None] * len(texts)
    # A list of codes for each name.
    converted = _converter().convert(
        distinct, to="ISOnumeric", not_found=NO_COUNTRY, enforce_list=True
    )
    by_name: dict[str | None, str] = {}
    for text, matches in zip(distinct, converted, strict=True):
        code = str(matches[0]) if len(matches) == 1 else NO_COUNTRY
        if code.isdigit():
            by_name[text] = f"{int(code):03}"
    return [by_name.get(text) for text in texts]


@functools.cache
def _converter() -> "CountryConverter":
    """The names of country-converter; to import it and to compile them takes most of a second."""
    from country_converter import CountryConverter

    # One line for each name without a country; prepare lists them in one.
    logging.getLogger(LIBRARY).setLevel(logging.CRITICAL)
    table = resources.files(LIBRARY).joinpath("country_data.tsv")
    with table.open(encoding="utf-8") as stream:
        names = pd.read_csv(stream, sep="\t", dtype=str, keep_default_na=False)
    # Read here, because the library stops at the codes that former countries lack, which pandas 3
    # reads as NaN. Those countries are left out; of the others, it expects NaN as `obsolete`.
    current = names[(names["obsolete"] == "") & (names["ISO2"] != "")]
    return CountryConverter(country_data=current.assign(obsolete=None))
