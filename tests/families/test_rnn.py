"""The LSTM: its equations, its scaling, and its skill on a series with and without signal."""

from pathlib import Path

import batches
import numpy as np
import pandas as pd
import pytest
import torch
from builders import MIRROR
from conftest import ROOT
from stock import COLUMNS, WINDOW, days
from torch import Tensor
from torch.nn import functional as F

from sextant import config, evaluate, plugins, saved_model
from sextant.families.rnn import RNN
from sextant.kinds.series import encoder as series
from sextant.kinds.series import rows as series_rows
from sextant.kinds.series.twin import write_twin
from sextant.tasks.forecasting import metrics as forecasting

NET = {"hidden_size": 7, "layers": 2, "dropout": 0.0}
ROWS, FEATURES = 13, 5


def make_batch(rows: int = ROWS) -> series.Batch:
    return batches.of_series(rows, FEATURES, WINDOW - 1)


def make_net(seed: int = 5, **net: float) -> RNN:
    torch.manual_seed(seed)
    rnn = RNN(FEATURES, **NET | net)
    rnn.initialise(make_batch())
    return rnn.eval()


# --- equations ----------------------------------------------------------------------------------


def test_the_stacked_lstm_follows_its_equations() -> None:
    """Both layers, step by step; torch orders gates i, f, g, o."""
    net, batch = make_net(), make_batch()
    parameters = dict(net.lstm.named_parameters())
    level = batch.window.abs().mean((1, 2))
    inputs = list((batch.window / level[:, None, None]).unbind(1))
    for layer in range(2):
        w, u = parameters[f"weight_ih_l{layer}"], parameters[f"weight_hh_l{layer}"]
        b = parameters[f"bias_ih_l{layer}"] + parameters[f"bias_hh_l{layer}"]
        h = c = torch.zeros(ROWS, 7)
        states = []
        for x in inputs:
            i, f, g, o = (x @ w.T + h @ u.T + b).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            states.append(h)
        inputs = states
    location, log_scale = F.linear(inputs[-1], net.head.weight, net.head.bias).unbind(1)
    prediction = net.predict(batch)
    torch.testing.assert_close(prediction["location"], net.unit * level * location)
    torch.testing.assert_close(prediction["scale"], net.unit * level * log_scale.exp())


def test_the_loss_is_the_student_t_likelihood() -> None:
    from scipy.stats import t

    net, batch = make_net(), make_batch()
    unit = net.unit.item()
    prediction = net.predict(batch)
    location = prediction["location"].detach().double().numpy() / unit
    scale = prediction["scale"].detach().double().numpy() / unit
    freedom = 3  # 2 + e^0
    log_density = t.logpdf(batch.target.double().numpy() / unit, freedom, location, scale)
    assert net.loss(batch).item() == pytest.approx(-log_density.mean(), rel=1e-5)


def test_a_more_volatile_window_gives_a_proportionally_wider_forecast() -> None:
    net, batch = make_net(), make_batch()
    calm = net.predict(batch)
    volatile = net.predict(batch._replace(window=3 * batch.window))
    for name in ("location", "scale"):
        torch.testing.assert_close(volatile[name], 3 * calm[name])


def test_a_constant_window_has_a_forecast() -> None:
    flat = make_batch()._replace(window=torch.zeros(ROWS, WINDOW - 1, FEATURES))
    prediction = make_net().predict(flat)
    assert all(tensor.isfinite().all() for tensor in prediction.values())
    assert (prediction["scale"] > 0).all()


# --- laws of a net ------------------------------------------------------------------------------


def test_an_untrained_net_forecasts_about_the_base_price() -> None:
    batch = make_batch(211)
    location = make_net().predict(batch)["location"]
    assert (location.abs() < 0.25 * batch.target.std()).all()


def test_the_unit_does_not_depend_on_a_rare_jump() -> None:
    batch = make_batch()
    jump = batch._replace(target=batch.target.index_fill(0, torch.tensor([4]), 1.0))
    net = make_net()
    before = net.unit.item()
    net.initialise(jump)
    assert net.unit.item() < 2 * before


def test_a_batch_is_predicted_like_its_rows_one_by_one() -> None:
    net, batch = make_net(), make_batch()
    together = net.predict(batch)
    for i in range(ROWS):
        row = slice(i, i + 1)
        for name, tensor in net.predict(plugins.take(batch, row)).items():
            torch.testing.assert_close(tensor, together[name][row], rtol=1e-5, atol=1e-7)


def test_a_prediction_draws_nothing() -> None:
    net, batch = make_net(dropout=0.5), make_batch()
    state = torch.get_rng_state()
    first = net.predict(batch)
    assert state.equal(torch.get_rng_state())
    for name, tensor in net.predict(batch).items():
        assert tensor.equal(first[name])


def test_the_same_seed_gives_the_same_weights() -> None:
    net, same_seed = make_net(), make_net()
    for name, tensor in net.state_dict().items():
        assert tensor.equal(same_seed.state_dict()[name]), name
    assert not make_net(6).head.weight.equal(net.head.weight)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_every_parameter_has_a_gradient(layers: int) -> None:
    net = make_net(layers=layers).train()
    net.loss(make_batch()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def train_locations(net: RNN, batch: series.Batch, steps: int, lr: float) -> Tensor:
    """The predicted locations after some steps."""
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    net.train()
    for _ in range(steps):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    return net.eval().predict(batch)["location"].detach()


def test_the_net_overfits_eight_windows() -> None:
    batch = make_batch(8)
    net = make_net(hidden_size=23)
    before = net.loss(batch).item()
    location = train_locations(net, batch, 200, 0.01)
    assert (location - batch.target).abs().max() < 0.05 * batch.target.std()
    assert net.loss(batch).item() < before - 2


# --- with raw rows ------------------------------------------------------------------------------


def make_model(rows: pd.DataFrame) -> saved_model.SavedModel:
    """An untrained net that answers raw rows."""
    encoder = series.Encoder.fit(rows, COLUMNS)
    card = {"task": "forecasting", "kind": "series", "calibration": {"weight": 1.0, "width": 2.0}}
    return saved_model.SavedModel(card, make_net(), encoder)


@pytest.mark.parametrize("row", [WINDOW, 53, 96])
def test_a_later_value_changes_no_earlier_answer(row: int) -> None:
    frame = days()
    model = make_model(series_rows.repair(frame, COLUMNS))
    changed = frame.copy()
    changed.loc[row:, ["Open", "High", "Low", "Close", "Volume"]] *= 3
    before = model.predict(frame)
    with pytest.warns(UserWarning, match="the change of `Open`, `High`, `Low`, `Close` on .* is"):
        after = model.predict(changed)
    end = row - WINDOW + 1
    pd.testing.assert_frame_equal(before.head(end), after.head(end))
    assert (before["next_open"][end:] != after["next_open"][end:]).all()
    last_days = pd.to_datetime(frame["Date"])[WINDOW - 1 :]
    assert before["after"].tolist() == last_days.dt.strftime("%Y-%m-%d").tolist()


def test_the_last_window_is_answered_alone_as_among_others() -> None:
    frame = days()
    model = make_model(series_rows.repair(frame, COLUMNS))
    alone, among = model.predict(frame.tail(WINDOW)), model.predict(frame).tail(1)
    assert len(alone) == 1
    pd.testing.assert_frame_equal(alone, among.reset_index(drop=True), rtol=1e-6)


def test_a_saved_model_answers_the_same(tmp_path: Path) -> None:
    model = make_model(series_rows.repair(days(), COLUMNS))
    card = {**model.card, "family": "rnn", "net": NET, "columns": COLUMNS.model_dump()}
    saved_model.save(tmp_path / "model", card, model.net, model.encoder)
    loaded = saved_model.load(tmp_path / "model")
    pd.testing.assert_frame_equal(loaded.predict(days()), model.predict(days()))


# --- on the twin and on real prices -------------------------------------------------------------


def train_model(
    folder: Path, conf: config.DatasetConf
) -> tuple[saved_model.SavedModel, dict[str, pd.DataFrame]]:
    """The model as the pipeline trains it, at budget standard on folder/raw; and the parts."""
    from sextant import train

    rows = series_rows.repair(series_rows.read(folder / "raw", conf.columns), conf.columns)
    parts = series_rows.split(rows, conf.columns, conf.split)
    profile = {
        "kind": conf.kind,
        "source": "embedded",
        "digest": "",
        "layout": conf.columns.model_dump(),
    }
    model_conf = config.model("rnn")
    model, _ = train.learn(model_conf, parts, profile, folder / "checkpoints", lambda row: None)
    return model, parts


MARGIN = 0.15  # below the rmse of the best baseline; the twin's planted signal is worth about 0.3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's
def test_on_the_twin_the_net_beats_the_best_baseline_by_a_margin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On val, gate and test; training read only train, and val to pick the epoch."""
    monkeypatch.chdir(ROOT)
    conf = config.dataset("google_stock")
    write_twin(config.twin(conf), conf.columns, tmp_path / "raw")
    model, parts = train_model(tmp_path, conf)
    baselines = model.task.baselines("series")
    metrics, _ = evaluate.evaluate(model, parts, baselines)
    assert metrics["verdict"][0].startswith(f"Skill: RMSE {metrics['test']['rmse']:.2f} against ")
    for part in ("val", "gate", "test"):
        rows = parts[part]
        scores = forecasting.score(model.answer(rows), rows, model.encoder)
        for name, fit in baselines.items():
            answer = fit(parts["train"], conf.columns)
            baseline = forecasting.score(answer(rows), rows, model.encoder)
            for metric in ("rmse", "pinball"):
                limit = (1 - MARGIN) * baseline[metric]
                assert scores[metric] < limit, (part, metric, name)
        assert np.isclose(scores["coverage_90"], 0.9, atol=0.1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's
@pytest.mark.skipif(MIRROR is None, reason="needs the real files under SEXTANT_MIRROR")
def test_on_january_2017_the_net_has_no_skill_and_the_verdict_is_no_skill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """About as close as the previous close, which is the best that anyone reaches on these days."""
    monkeypatch.chdir(ROOT)
    conf = config.dataset("google_stock")
    (tmp_path / "raw").mkdir()
    for entry in conf.sources["mirror"]:
        (tmp_path / "raw" / entry["file"]).symlink_to(Path(str(MIRROR)) / entry["path"])
    model, parts = train_model(tmp_path, conf)
    metrics, _ = evaluate.evaluate(model, parts, model.task.baselines("series"))
    assert metrics["rows"]["test"] == 20
    assert metrics["test"]["rmse"] <= 1.05 * metrics["baselines"]["previous_close"]["rmse"]
    (verdict,) = metrics["verdict"]
    assert verdict.startswith("No skill")
    assert "against 3.52 for the previous Close over 20 days" in verdict
    assert "The 90 % interval contains" in verdict
