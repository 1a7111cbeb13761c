"""The LSTM: its equations, what its scale stands for, and that it learns what can be known and no more."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sextant.data import series
from test_series import COLUMNS, MIRROR, WINDOW, days
from torch import Tensor
from torch.nn import functional as F

from sextant import baselines, config, evaluate, saved_model, train
from sextant.families.rnn import RNN
from sextant.tasks import forecasting

SIZES = {"hidden_size": 7, "layers": 2, "dropout": 0.0}


def batch(rows: int = 13, features: int = 5, seed: int = 3) -> series.Batch:
    generator = torch.Generator().manual_seed(seed)
    window = torch.randn(rows, WINDOW - 1, features, generator=generator)
    return series.Batch(
        window, torch.full((rows,), 100.0), 0.01 * torch.randn(rows, generator=generator)
    )


def net(seed: int = 5, features: int = 5, **sizes: float) -> RNN:
    torch.manual_seed(seed)
    made = RNN(features, **SIZES | sizes)
    made.initialise(batch())
    return made.eval()


def test_the_stacked_lstm_is_its_equations() -> None:
    """Both layers, step by step, gates in torch's order i, f, g, o."""
    model, given = net(), batch()
    parameters = dict(model.lstm.named_parameters())
    level = given.window.abs().mean((1, 2))
    xs = list((given.window / level[:, None, None]).unbind(1))
    for layer in range(2):
        h = c = torch.zeros(13, 7)
        w, u, b, d = (
            parameters[f"{name}_l{layer}"]
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        hs = []
        for x in xs:
            i, f, g, o = (x @ w.T + b + h @ u.T + d).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            hs.append(h)
        xs = hs
    location, log_scale = F.linear(xs[-1], model.head.weight, model.head.bias).unbind(1)
    found = model.predict(given)
    torch.testing.assert_close(found["location"], model.unit * level * location)
    torch.testing.assert_close(found["scale"], model.unit * level * log_scale.exp())


def test_the_loss_is_the_student_t_likelihood() -> None:
    from scipy.stats import t

    model, given = net(), batch()
    location, scale = (
        x.detach().double().numpy() / model.unit.item() for x in model.predict(given).values()
    )
    expected = -t.logpdf(
        given.target.double().numpy() / model.unit.item(), 3, location, scale
    ).mean()
    assert model.loss(given).item() == pytest.approx(
        expected, rel=1e-5
    )  # e^0 + 2 degrees of freedom


def test_a_wilder_window_has_a_wider_answer() -> None:
    model, given = net(), batch()
    calm, wild = model.predict(given), model.predict(given._replace(window=3 * given.window))
    for name in ("location", "scale"):
        torch.testing.assert_close(wild[name], 3 * calm[name])


def test_a_window_in_which_nothing_happens_has_an_answer() -> None:
    found = net().predict(batch()._replace(window=torch.zeros(13, WINDOW - 1, 5)))
    assert all(x.isfinite().all() for x in found.values()) and (found["scale"] > 0).all()


def test_untrained_it_answers_about_the_known_price() -> None:
    given = batch(211)
    assert (net().predict(given)["location"].abs() < 0.25 * given.target.std()).all()


def test_the_start_does_not_hang_on_rare_jumps() -> None:
    given = batch()
    jump = given._replace(target=given.target.index_fill(0, torch.tensor([4]), 1.0))
    model = net()
    before = model.unit.item()
    model.initialise(jump)
    assert model.unit.item() < 2 * before


def test_batched_answers_equal_one_by_one() -> None:
    model, given = net(), batch()
    whole = model.predict(given)
    for i in range(13):
        one = model.predict(series.Batch(*(x[i : i + 1] for x in given)))
        for name, x in one.items():
            torch.testing.assert_close(x, whole[name][i : i + 1], rtol=1e-5, atol=1e-7)


def test_an_answer_draws_nothing() -> None:
    model, given = net(dropout=0.5), batch()
    torch.manual_seed(1)
    first, state = model.predict(given), torch.get_rng_state()
    torch.manual_seed(1)
    assert state.equal(torch.get_rng_state())
    assert all(x.equal(first[name]) for name, x in model.predict(given).items())


def test_the_same_seed_has_the_same_weights() -> None:
    for ours, theirs in zip(net().parameters(), net().parameters(), strict=True):
        assert ours.equal(theirs)
    assert not net(6).head.weight.equal(net().head.weight)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_parameter_gets_a_gradient(layers: int) -> None:
    model = net(layers=layers).train()
    model.loss(batch()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def trained(model: RNN, given: series.Batch, steps: int, lr: float) -> Tensor:
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for _ in range(steps):
        loss = model.train().loss(given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval().predict(given)["location"].detach()


def test_it_overfits_eight_windows() -> None:
    given = batch(8)
    model = net(hidden_size=23)
    before = model.loss(given).item()
    location = trained(model, given, 300, 0.01)
    assert (location - given.target).abs().max() < 0.05 * given.target.std()
    assert model.loss(given).item() < before - 2


def model_of(rows: pd.DataFrame) -> saved_model.Saved:
    """An untrained net behind the interface that raw rows go through."""
    encoder = series.Encoder.fit(rows, COLUMNS)
    card = {"task": "forecasting", "kind": "series", "calibration": {"weight": 1.0, "width": 2.0}}
    return saved_model.SavedModel(card, net(features=encoder.sizes["features"]), encoder)


@pytest.mark.parametrize("row", [WINDOW, 53, 96])
def test_a_later_value_changes_no_earlier_answer(row: int) -> None:
    frame = days()
    model = model_of(series.repair(frame, COLUMNS))
    later = frame.copy()
    later.loc[row:, ["Open", "High", "Low", "Close", "Volume"]] *= 3
    before, after = model.predict(frame), model.predict(later)
    end = row - WINDOW + 1
    pd.testing.assert_frame_equal(before.head(end), after.head(end))
    assert (before["next_open"][end:] != after["next_open"][end:]).all()
    assert (
        before["after"].tolist()
        == pd.to_datetime(frame["Date"])[WINDOW - 1 :].dt.strftime("%Y-%m-%d").tolist()
    )


def test_the_answer_to_the_last_window_needs_no_more_than_it() -> None:
    frame = days()
    model = model_of(series.repair(frame, COLUMNS))
    alone, among = model.predict(frame.tail(WINDOW)), model.predict(frame).tail(1)
    assert len(alone) == 1
    pd.testing.assert_frame_equal(alone, among.reset_index(drop=True), rtol=1e-6)


def test_a_saved_one_answers_the_same(tmp_path: Path) -> None:
    model = model_of(series.repair(days(), COLUMNS))
    card = {**model.card, "family": "rnn", "net": SIZES, "columns": COLUMNS.model_dump()}
    saved_model.save(tmp_path / "model", card, model.net, model.encoder)
    pd.testing.assert_frame_equal(
        saved_model.load(tmp_path / "model").predict(days()), model.predict(days())
    )


# --- on the twin ------------------------------------------------------------------------------------------------------


def learnt(
    folder: Path, found: config.DatasetConf
) -> tuple[saved_model.Saved, dict[str, pd.DataFrame]]:
    """The model as the pipeline trains it, at budget standard, on the files of `folder`; and the parts."""
    rows = series.repair(series.read(folder / "raw", found.columns), found.columns)
    parts = series.split(rows, found.columns, found.split)
    profile = {
        "kind": found.kind,
        "source": "embedded",
        "digest": "",
        "layout": found.columns.model_dump(),
    }
    return train.learn(
        config.model("rnn"), parts, profile, folder / "checkpoints", lambda row: None
    )[0], parts


MARGIN = 0.15  # of the rmse of the strongest baseline; the echo that the twin's conf plants is worth about 0.3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's
def test_on_the_twin_it_beats_the_strongest_baseline_by_a_margin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the pipeline trains it, at budget standard: on every part, of which gate and test were never seen."""
    monkeypatch.chdir(Path(__file__).parents[2])
    found = config.dataset("google_stock")
    series.write_twin(found.twin, found.columns, tmp_path / "raw")
    model, parts = learnt(tmp_path, found)
    metrics, _ = evaluate.evaluate(model, parts)
    assert metrics["verdict"][0].startswith(f"Skill: RMSE {metrics['test']['rmse']:.2f} against ")
    for name in ("val", "gate", "test"):
        ours = forecasting.score(model.answer(parts[name]), parts[name], model.encoder)
        others = {
            baseline: forecasting.score(
                fit(parts["train"], found.columns)(parts[name]), parts[name], model.encoder
            )
            for baseline, fit in baselines.of("forecasting").items()
        }
        for metric in ("rmse", "pinball"):
            best = min(scores[metric] for scores in others.values())
            assert ours[metric] < (1 - MARGIN) * best, (name, metric, ours, others)
        assert np.isclose(ours["coverage_90"], 0.9, atol=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's
@pytest.mark.skipif(MIRROR is None, reason="needs the real files under SEXTANT_MIRROR")
def test_on_january_2017_it_is_about_as_near_as_the_previous_close_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    found = config.dataset("google_stock")
    (tmp_path / "raw").mkdir()
    for entry in found.sources["mirror"]:
        (tmp_path / "raw" / entry["file"]).symlink_to(Path(str(MIRROR)) / entry["path"])
    model, parts = learnt(tmp_path, found)
    metrics, _ = evaluate.evaluate(model, parts)
    assert metrics["rows"]["test"] == 20
    assert metrics["test"]["rmse"] <= 1.05 * metrics["baselines"]["previous_close"]["rmse"]
    (verdict,) = metrics["verdict"]
    assert (
        verdict.startswith("No skill") and "against 3.52 of previous Close over 20 days" in verdict
    )
    assert "The 90 % interval held" in verdict
