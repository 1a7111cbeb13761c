"""`make check BUDGET=overfit`: a net that can learn, and one that cannot."""

import pytest

from sextant import check, config
from sextant.commands import overfit
from sextant.errors import SextantError, UsageError


@pytest.mark.slow
def test_a_net_learns_a_batch_by_heart_and_one_without_a_rate_does_not(
    in_pipeline: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check.main(["model=ann", "budget=overfit"])
    line = capsys.readouterr().out
    assert line.startswith("ann: 8 rows, ") and line.endswith(", learnt by heart\n")
    conf = config.model("ann", ["model.optimizer.lr=1e-12"])
    monkeypatch.setattr(config, "model", lambda name: conf)
    with pytest.raises(SextantError, match="they are not learnt by heart, so look at `optimizer`"):
        overfit.main("ann")


@pytest.mark.parametrize("arguments", [["budget=overfit"], ["model=ann", "budget=smoke"]])
def test_another_use_is_refused(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="expected make check MODEL=<model> BUDGET=overfit"):
        check.main(arguments)


def test_data_that_are_not_prepared_are_asked_for(one_model: object) -> None:
    with pytest.raises(SextantError, match="data/prepared/churn"):
        overfit.main("ann")
