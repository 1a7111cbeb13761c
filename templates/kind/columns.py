"""todo: what conf says of the data: the block `columns` of conf/dataset/<name>.yaml.

Copy this folder to src/sextant/kinds/<kind>/. It works as it is: CSV files of numbers. contracts.py
says what every member must be.
"""

from typing import Annotated

from pydantic import Field

from ...strict import Strict

SPLITS = ("hash",)  # which `split.by` the kind takes


class Columns(Strict):
    """todo: what each column is."""

    target: str
    features: Annotated[list[str], Field(min_length=1)]

    @property
    def all(self) -> list[str]:
        """The columns of the table that the expectations look at."""
        return [*self.features, self.target]
