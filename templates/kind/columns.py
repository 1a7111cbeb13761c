"""todo: the block `columns` of conf/dataset/<name>.yaml.

Copy this folder to src/sextant/kinds/<kind>/. It works as it is, for CSV files of numbers.
contracts.py describes every member.
"""

from typing import Annotated

from pydantic import Field

from ...strict import Strict

SPLITS = ("hash",)  # the values of `split.by` that the kind supports


class Columns(Strict):
    """todo: the role of each column."""

    target: str
    features: Annotated[list[str], Field(min_length=1)]

    @property
    def all(self) -> list[str]:
        """The columns of the table that the expectations check."""
        return [*self.features, self.target]
