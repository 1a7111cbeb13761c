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
from sextant.kinds.series.columns import Columns
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


HORIZON = 3


def further_batch(rows: int = ROWS) -> series.Batch:
    """A batch with targets of each of HORIZON days, of which the last are beyond the rows."""
    batch = make_batch(rows)
    generator = torch.Generator().manual_seed(7)
    steps = 0.01 * torch.randn(rows, HORIZON, generator=generator)
    target = steps.cumsum(1)
    target[-1, 1:] = torch.nan
    target[-2, 2] = torch.nan
    return batch._replace(target=target)


def further_net(**net: float) -> RNN:
    torch.manual_seed(5)
    rnn = RNN(FEATURES, **NET | net, horizon=HORIZON)
    rnn.initialise(further_batch())
    return rnn.eval()


def test_each_day_ahead_has_location_scale_unit_and_freedom() -> None:
    """The first columns of the head are the locations, the last ones the log scales."""
    net, batch = further_net(), further_batch()
    level = batch.window.abs().mean((1, 2))
    h = net.lstm(batch.window / level[:, None, None])[0][:, -1]
    location, log_scale = net.head(h).split(HORIZON, dim=1)
    prediction = net.predict(batch)
    assert prediction["location"].shape == prediction["scale"].shape == (ROWS, HORIZON)
    torch.testing.assert_close(prediction["location"], net.unit * level[:, None] * location)
    torch.testing.assert_close(prediction["scale"], net.unit * level[:, None] * log_scale.exp())
    known = (batch.target[:-2].abs() / level[:-2, None]).sort(0).values
    assert (known[0] <= net.unit).all() and (net.unit <= known[-1]).all()
    assert net.freedom.shape == (HORIZON,)


def test_the_loss_weighs_days_ahead_and_leaves_out_those_whose_truth_is_not_known() -> None:
    from scipy.stats import t

    net, batch = further_net(), further_batch()
    prediction = net.predict(batch)
    densities, weights = [], []
    for row in range(ROWS):
        for day in range(HORIZON):
            target = batch.target[row, day].item()
            if not np.isnan(target):
                unit = net.unit[day].item()
                location = prediction["location"][row, day].item() / unit
                scale = prediction["scale"][row, day].item() / unit
                densities.append(t.logpdf(target / unit, 3, location, scale))
                weights.append(1 / (day + 1))
    assert len(densities) == ROWS * HORIZON - 3
    loss = net.loss(batch)
    assert loss.item() == pytest.approx(-np.average(densities, weights=weights), rel=1e-5)
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


def test_a_horizon_of_1_is_the_net_without_one() -> None:
    torch.manual_seed(5)
    net = RNN(FEATURES, **NET, horizon=1)
    net.initialise(make_batch())
    expected = make_net()
    assert net.eval().loss(make_batch()).equal(expected.loss(make_batch()))
    for name, tensor in expected.state_dict().items():
        assert tensor.equal(net.state_dict()[name]), name


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


# --- a random walk ------------------------------------------------------------------------------


def test_on_a_random_walk_intervals_grow_with_the_root_of_the_days_and_hold() -> None:
    """Of each day ahead 90 % of the values lie within the interval, which val calibrated."""
    days, part_days = 9000, 3000
    rng = np.random.default_rng(3)
    prices = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, days)))
    dates = pd.bdate_range("1985-01-01", periods=days).strftime("%Y-%m-%d")
    columns = Columns(
        date="Day", target="Price", base="Price", prices=["Price"], unit="USD", window=9
    )
    columns = forecasting.roles(columns, pd.DataFrame(), {"horizon": 5})
    rows = pd.DataFrame({"Day": dates, "Price": prices})
    encoder = series.Encoder.fit(rows.head(part_days), columns)
    train, val, test = (rows.iloc[start : start + part_days] for start in (0, 3000, 6000))
    torch.manual_seed(3)
    net = RNN(1, **NET, horizon=5)
    train_batch = encoder.encode(train)
    net.initialise(train_batch)
    train_locations(net, train_batch, 20, 0.003)
    val_batch = encoder.encode(val)
    calibration = forecasting.calibrate(saved_model.outputs(net, val_batch), val_batch)
    test_batch = encoder.encode(test)
    answers = forecasting.answers(saved_model.outputs(net, test_batch), test, encoder, calibration)
    narrowest = None
    for ahead, scores in enumerate(forecasting.scores_by_day(answers, test, encoder), start=1):
        assert scores["coverage_90"] == pytest.approx(0.9, abs=0.04), ahead
        assert abs(scores["skill"]) < 0.02, ahead
        width = np.log(answers[f"upper_90_{ahead}"] / answers[f"lower_90_{ahead}"]).mean()
        narrowest = narrowest or width
        assert width / narrowest == pytest.approx(ahead**0.5, rel=0.12), ahead


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


# --- other cells --------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "gates"), [("gru", 3), ("rnn", 1)])
def test_another_cell_has_its_gates_and_forecasts(cell: str, gates: int) -> None:
    torch.manual_seed(5)
    net = RNN(FEATURES, **NET, cell=cell).eval()
    batch = make_batch()
    net.initialise(batch)
    assert net.lstm.weight_hh_l0.shape == (gates * 7, 7)
    changed = batch._replace(window=batch.window.roll(1, 1))
    location = net.predict(batch)["location"]
    assert location.shape == (ROWS,) and torch.isfinite(net.loss(batch))
    assert not torch.equal(net.predict(changed)["location"], location), "the order counts"
