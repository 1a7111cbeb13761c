"""Nights of bad data, on the real bank customers: none makes a champion by itself."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from builders import MIRROR
from conftest import dump_yaml, load_yaml

from sextant import evaluate, files, paths, prepare, register, train, trees
from sextant.tracking import registry, store

FILE = "Churn_Modelling.csv"


def older(rows: pd.DataFrame) -> pd.DataFrame:
    """Every customer is 15 years older."""
    return rows.assign(Age=(rows["Age"] + 15).clip(upper=100))


def german(rows: pd.DataFrame) -> pd.DataFrame:
    """Only German customers, under new ids, as many rows as before and some more."""
    germans = rows[rows["Geography"] == "Germany"]
    many = pd.concat([germans] * 5, ignore_index=True).head(10_500)
    return many.assign(CustomerId=np.arange(20_000_000, 20_000_000 + len(many)))


def in_thousands(rows: pd.DataFrame) -> pd.DataFrame:
    """Salaries are divided by 1,000."""
    return rows.assign(EstimatedSalary=(rows["EstimatedSalary"] / 1000).round(2))


def flipped(rows: pd.DataFrame) -> pd.DataFrame:
    """A quarter of the labels are wrong."""
    is_wrong = np.random.default_rng(0).random(len(rows)) < 0.25
    return rows.assign(Exited=np.where(is_wrong, 1 - rows["Exited"], rows["Exited"]))


def more(rows: pd.DataFrame) -> pd.DataFrame:
    """500 further customers like the others."""
    further = rows.sample(500, random_state=1)
    return pd.concat([rows, further.assign(CustomerId=further["CustomerId"] + 10_000_000)])


def night(rows: pd.DataFrame) -> dict[str, Any]:
    """Write the raw file, run the stages from prepare to register, and return the decision."""
    raw = paths.raw("churn")
    raw.mkdir(parents=True, exist_ok=True)
    rows.to_csv(raw / FILE, index=False)
    (raw / files.RECEIPT).write_text('{"source": "mirror"}')
    digest = files.folder_digest(raw, without=files.RECEIPT)
    accepted = {"success": True, "source": "mirror", "digest": digest}
    files.write_json(paths.validation("churn"), accepted)
    prepare.main(["dataset=churn"])
    for stage in (train, evaluate, register):
        stage.main(["model=ann"])
    decision: dict[str, Any] = json.loads(paths.decision("ann").read_text())
    return decision


NIGHTS: dict[Callable[[pd.DataFrame], pd.DataFrame], str] = {
    older: "critical in `Age`",
    german: "critical in `Geography`",
    in_thousands: "critical in `EstimatedSalary`",
    flipped: "breaks the guard log_loss <= 0.5",
}


@pytest.mark.slow(minutes=2)
@pytest.mark.skipif(MIRROR is None, reason="needs the real table under SEXTANT_MIRROR")
def test_none_of_four_bad_nights_makes_a_champion_by_itself(
    one_model: Path, forked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_STAGE", "night")
    monkeypatch.setattr(trees, "MAX_TREES", 40)  # of a baseline, which takes most of the time
    params = load_yaml(Path("params.yaml").read_text())
    Path("params.yaml").write_text(dump_yaml({**params, "budget": "smoke"}))
    customers = pd.read_csv(Path(str(MIRROR)) / "churn" / FILE)
    first = night(customers)
    assert (first["decision"], first["version"]) == ("promoted", "1")
    for change, reason in NIGHTS.items():
        record = night(change(customers))
        assert record["decision"] in ("not promoted", "needs a person"), record["reason"]
        assert reason in record["reason"]
        assert record["drift"]["severity"] in ("critical", "warning")
        champion = registry.champion(store.client(), record["registered_model"])
        assert champion is not None and champion.version == "1"
    usual = night(more(customers))
    assert usual["drift"]["severity"] == "none" and "drift" not in usual["reason"]
