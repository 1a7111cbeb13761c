"""todo: the twin: a generator with a planted signal, whose parameters are in conf."""

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from pydantic import Field

from ...strict import Strict
from .columns import Columns


class Twin(Strict):
    """todo: the parameters of the twin: the block `twin` of conf/dataset/<name>.yaml."""

    file: str
    rows: Annotated[int, Field(ge=1)]
    seed: int
    weights: list[float]  # of each feature in the target
    noise: Annotated[float, Field(ge=0)]  # the standard deviation that no feature explains


def write_twin(twin: Twin, columns: Columns, folder: Path) -> None:
    """Write the twin to `folder`, in the upstream file format; the bytes depend on conf alone."""
    rng = np.random.default_rng(twin.seed)
    features = rng.standard_normal((twin.rows, len(columns.features)))
    target = features @ np.array(twin.weights) + twin.noise * rng.standard_normal(twin.rows)
    rows = pd.DataFrame(features, columns=columns.features).assign(**{columns.target: target})
    folder.mkdir(parents=True, exist_ok=True)
    rows.round(6).to_csv(folder / twin.file, index=False, lineterminator="\n")
