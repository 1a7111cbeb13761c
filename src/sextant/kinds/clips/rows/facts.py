"""The facts of each clip for the expectations, and expectations of every set of clips."""

import hashlib

import numpy as np
import pandas as pd

from ...tables import Finding
from ..columns import Columns
from .reading import Raw

# A set in which a larger share of the clips stands still cannot teach motion.
MOST = 0.9


def table(raw: Raw, columns: Columns) -> pd.DataFrame:
    """Return the facts of each clip: frames and their size, whether it can be read, its digest.

    `still`: whether all frames are alike. `width` and `height` are those of the files, `frames` and
    `sha256` those of the prepared clip.
    """
    facts = pd.DataFrame([_facts(clip) for clip in raw.clips["clip"]], index=raw.clips.index)
    rows = pd.concat([raw.clips.drop(columns="clip"), raw.sizes, facts], axis=1)
    return rows[columns.all]


def _facts(clip: np.ndarray | None) -> dict[str, bool | int | str | None]:
    if clip is None:
        empty = dict.fromkeys(("frames", "channels", "still", "sha256"))
        return {**empty, "readable": False}
    return {
        "frames": len(clip),
        "channels": clip.shape[3],
        "readable": True,
        "still": bool((clip == clip[:1]).all()),
        "sha256": hashlib.sha256(clip.tobytes()).hexdigest(),
    }


def findings(raw: Raw, columns: Columns, table: pd.DataFrame) -> list[Finding]:
    """An expectation of every set: in some of the clips something moves."""
    is_still = table["still"].eq(True)
    is_met = is_still.mean() <= MOST
    return [
        Finding(
            expectation="expect_clips_to_move",
            kwargs={"mostly": round(1 - MOST, 6)},
            severity="critical",
            unit="clips",
            checked=len(table),
            unexpected=0 if is_met else int(is_still.sum()),
            examples=table["path"][is_still].tolist(),
            why="in nearly all clips nothing moves: they were cut or converted wrongly",
        )
    ]
