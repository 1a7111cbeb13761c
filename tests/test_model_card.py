"""The model card and the description of a registered model."""

import json
from pathlib import Path
from typing import Any

import pytest

from sextant import gate, model_card

METRICS: dict[str, Any] = {
    "model": "ann",
    "family": "ann",
    "task": "classification",
    "dataset": "churn",
    "source": "embedded",
    "seed": 42,
    "budget": "smoke",
    "epochs": 7,
    "val": {},
    "test": {"accuracy": 0.75, "log_loss": 0.5},
    "baselines": {"majority": {"accuracy": 0.5}},
    "verdict": ["it is right in 3 of 4 rows"],
}
PROFILE = {
    "source": "embedded",
    "digest": "0123456789abcdef" * 4,
    "rows": {"train": 1200, "val": 400},
    "about": "Customers of one bank.",
}


@pytest.fixture
def candidate(workspace: Path) -> gate.Candidate:
    contents = {
        "models/ann/model.json": {
            "model": "ann",
            "source": "embedded",
            "data": PROFILE["digest"],
            "val": {},
        },
        "reports/metrics/ann.json": METRICS,
        "data/prepared/churn/profile.json": PROFILE,
    }
    for name, content in contents.items():
        Path(name).parent.mkdir(parents=True)
        Path(name).write_text(json.dumps(content))
    return gate.Candidate("ann")


def test_the_card_shows_the_scores_beside_the_baselines(candidate: gate.Candidate) -> None:
    card = model_card.card(candidate)
    assert "| on the test part | &emsp;accuracy | &emsp;log_loss |\n|---|---|---|" in card
    assert "| this model | &emsp;0.7500 | &emsp;0.5000 |" in card
    assert "| majority | &emsp;0.5000 | &emsp;– |" in card  # a baseline may lack a metric


def test_the_card_names_data_seed_and_limits(candidate: gate.Candidate) -> None:
    card = model_card.card(candidate)
    assert card.startswith("ANN for classification on `churn` (its generated twin, so these")
    for line in (
        "- it is right in 3 of 4 rows",
        "- Customers of one bank.",
        "- rows: train 1,200, val 400; data sha256 0123456789ab",
        "- seed 42, budget smoke; epoch 7 was kept for its score on val",
    ):
        assert line in card.splitlines()


def test_a_model_of_real_data_says_so(candidate: gate.Candidate) -> None:
    candidate.metrics["source"] = "mirror"
    for text in (model_card.card(candidate), model_card.about(candidate)):
        assert text.startswith("ANN for classification on `churn` (real data).")


def test_the_description_says_which_commands_answer_and_move_the_alias(
    candidate: gate.Candidate,
) -> None:
    about = model_card.about(candidate)
    for command in ("`make predict MODEL=ann`", "`make promote`", "`make rollback`"):
        assert command in about
