"""todo: what the family is, in one sentence.

Copy this file to src/sextant/families/<family>.py. It works as it is, with the templates of a kind
and a task: a linear model. contracts.py (Family) describes every member.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

# todo: the batch of your kind. A family imports no other family; shared layers are in blocks.py.
from ..kinds.template.encoder import Batch


class Template(nn.Module):
    """todo: the idea, the equation and the paper; the class is named like its file.

    y = w x + b, trained on the mean squared error.
    """

    # --- required -------------------------------------------------------------------------------

    OUTPUTS: ClassVar[tuple[str, ...]] = ("value",)  # todo: the tensors that `predict` returns
    progress = 0.0  # 0 to 1, set before each step; for what changes as training goes on

    def __init__(
        self,
        features: int,  # todo: sizes by name; the encoder of the kind gives them
        *,
        # todo: what `net` of conf/model/<model>.yaml sets, each with its range
        init: Annotated[float, Field(gt=0)],
    ):
        super().__init__()
        self.linear = nn.Linear(features, 1)
        nn.init.normal_(self.linear.weight, std=init)

    def loss(self, batch: Batch) -> Tensor:
        """todo: the training objective, a scalar."""
        return F.mse_loss(self.predict(batch)["value"], batch.target)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """todo: the tensors of OUTPUTS, first axis: rows; without a random draw."""
        return {"value": self.linear(batch.features)[:, 0]}

    # --- optional: delete what is not needed ----------------------------------------------------

    @torch.no_grad()
    def initialise(self, train: Batch) -> None:
        """todo: what is computed once from the training batch: bins, base rates, a codebook."""
        self.linear.bias.fill_(train.target.mean())

    def param_groups(self) -> list[dict[str, object]]:
        """todo: parameters in groups, if some have another learning rate or no weight decay."""
        bias = {"params": [self.linear.bias], "weight_decay": 0.0}
        return [{"params": [self.linear.weight]}, bias]

    @staticmethod
    def check(net: Mapping[str, object]) -> None:
        """todo: raise UsageError for arguments that are each valid but do not go together.

        Its signature may also name `optimizer` and `schedule`.
        """
