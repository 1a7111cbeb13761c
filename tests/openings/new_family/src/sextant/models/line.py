"""Softmax regression: a weight per class for each number and each level of a category."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.tabular import UNSEEN, Batch


class Line(nn.Module):
    """logits = W x + sum_j e_j(level of category j)."""

    def __init__(
        self,
        numeric: int,
        cardinalities: Sequence[int],
        classes: int,
        *,
        spread: Annotated[float, Field(gt=0)],
    ):
        super().__init__()
        self.numbers = nn.Linear(numeric, classes)
        self.levels = nn.ModuleList(
            nn.Embedding(n + 1, classes, padding_idx=UNSEEN) for n in cardinalities
        )
        for table in self.levels:
            nn.init.normal_(table.weight[UNSEEN + 1 :], std=spread)

    def loss(self, batch: Batch) -> Tensor:
        return F.cross_entropy(self.predict(batch)["logits"], batch.target)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        each = [table(batch.categories[:, i]) for i, table in enumerate(self.levels)]
        return {"logits": self.numbers(batch.numeric) + sum(each)}
