"""A model is taken out of params.yaml; files stay."""

from pathlib import Path

import pytest
import yaml

from sextant.commands import remove
from sextant.errors import UsageError

Capture = pytest.CaptureFixture[str]


def lists() -> tuple[list[str], list[str]]:
    content = yaml.safe_load(Path("params.yaml").read_text())
    return list(content["datasets"]), list(content["models"])


@pytest.mark.usefixtures("workspace")
def test_a_data_set_stays_while_another_model_names_it(capsys: Capture) -> None:
    datasets, models = lists()
    remove.main(["model=rbm"])
    assert lists() == (datasets, [name for name in models if name != "rbm"])
    assert "data set `movielens_100k` stays, of sae" in capsys.readouterr().out
    remove.main(["model=sae"])
    assert "movielens_100k" not in lists()[0]
    said = capsys.readouterr().out
    assert "`sae` and its data set `movielens_100k`" in said
    assert "conf/dataset/movielens_100k.yaml" in said
    assert "write `sae: {family: sae, " in said and "`movielens_100k: ratings`" in said
    assert Path("conf/model/sae.yaml").is_file()


@pytest.mark.usefixtures("workspace")
def test_a_model_of_a_team_is_removed_and_its_confs_are_named(capsys: Capture) -> None:
    before = Path("params.yaml").read_text()
    text = before.replace("models: ", "  loans: tabular  # ours\nmodels: ")
    text += "  # the team's\n  loans: {family: ann, task: classification, dataset: loans,\n"
    text += "          kind: tabular}\n"
    Path("params.yaml").write_text(text)
    remove.main(["model=loans"])
    assert Path("params.yaml").read_text() == before + "  # the team's\n"
    confs = "conf/model/loans.yaml, conf/dataset/loans.yaml, conf/expectations/loans.yaml"
    assert f"the confs stay: {confs}" in capsys.readouterr().out


@pytest.mark.usefixtures("one_model")
def test_the_last_model_stays() -> None:
    before = Path("params.yaml").read_bytes()
    message = "`ann` is the only model that params.yaml lists, and a pipeline needs one; list anoth"
    with pytest.raises(UsageError, match=message):
        remove.main(["model=ann"])
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.usefixtures("workspace")
def test_a_model_that_is_not_listed_is_refused() -> None:
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UsageError, match=r"params.yaml lists no model `rnm`; did you mean `rnn`\?"):
        remove.main(["model=rnm"])
    with pytest.raises(UsageError, match=r"params.yaml lists no model `power`; "):
        remove.main(["model=power"])
    assert Path("params.yaml").read_bytes() == before


@pytest.mark.parametrize("arguments", [[], ["dataset=churn"], ["model=ann", "lr=1"]])
def test_other_arguments_are_answered_with_the_usage(arguments: list[str]) -> None:
    with pytest.raises(UsageError, match="expected: make remove MODEL=<model of params.yaml>"):
        remove.main(arguments)
