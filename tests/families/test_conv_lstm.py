"""The convolutional LSTM: its equations against plain loops, its motion, and what it can learn."""

import itertools
import math
from typing import Any

import batches
import numpy as np
import pandas as pd
import pytest
import torch
import twins
from conftest import ROOT
from torch import Tensor

from sextant import config, prepare, published
from sextant.errors import UsageError
from sextant.families.conv_lstm import Cell, ConvLSTM
from sextant.kinds.clips import rows as clip_rows
from sextant.kinds.clips.encoder import Batch
from sextant.saved_model import SavedModel

NET: dict[str, Any] = {
    "patch": 4, "hidden": [5, 6], "kernel": 3, "reach": 2, "motions": 2, "seen_weight": 0.5,
}  # fmt: skip
SIZE, PAST, FUTURE = 12, 3, 2


def make_net(seed: int = 3, classes: int = 0, channels: int = 1, **net: object) -> ConvLSTM:
    torch.manual_seed(seed)
    return ConvLSTM(channels, SIZE, PAST, FUTURE, classes, **NET | net).eval()


def make_batch(rows: int = 4, channels: int = 1) -> Batch:
    return batches.of_clips(rows, PAST + FUTURE, channels, SIZE)


# --- equations ----------------------------------------------------------------------------------


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_a_cell_follows_its_equations() -> None:
    """Place by place and channel by channel, in plain Python."""
    torch.manual_seed(1)
    side, n_in, channels = 3, 2, 2
    cell = Cell(n_in, channels, 3).double()
    x = torch.randn(1, side, side, n_in).double()
    h, c = torch.randn(2, 1, side, side, channels).double()
    with torch.no_grad():
        new_h, new_c = cell(x, (h, c))
    z = torch.cat([x, h], -1)[0]
    kernels = cell.around.weight[:, 0].tolist()
    weight, bias = cell.gates.weight.tolist(), cell.gates.bias.tolist()
    for row, col in itertools.product(range(side), repeat=2):
        around = []
        for channel in range(n_in + channels):
            total = 0.0
            for down, along in itertools.product((-1, 0, 1), repeat=2):
                if 0 <= row + down < side and 0 <= col + along < side:
                    value = z[row + down, col + along, channel].item()
                    total += kernels[channel][down + 1][along + 1] * value
            around.append(total)
        gates = [b + np.dot(w, around) for w, b in zip(weight, bias, strict=True)]
        for channel in range(channels):
            i, f, o, u = gates[channel::channels]
            expected = sigmoid(f) * c[0, row, col, channel].item() + sigmoid(i) * math.tanh(u)
            assert new_c[0, row, col, channel].item() == pytest.approx(expected)
            hidden = sigmoid(o) * math.tanh(expected)
            assert new_h[0, row, col, channel].item() == pytest.approx(hidden)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_frame_is_drawn_by_its_formula(channels: int) -> None:
    """Pixel by pixel: a mixture of shifted copies and of the paint."""
    net = make_net(channels=channels)
    side, patch, reach, motions = SIZE // 4, 4, 2, 2
    frame = torch.rand(1, channels, SIZE, SIZE)
    h = torch.randn(1, side, side, 11)
    with torch.no_grad():
        drawn = net.draw(frame, h)
        outputs = net.decoder(h)
    padded = torch.nn.functional.pad(frame, [reach] * 4)
    taps = 2 * reach + 1
    for y, x, channel in [(0, 0, 0), (5, 7, channels - 1), (11, 3, 0)]:
        output = outputs[0, y // patch, x // patch]
        place = y % patch * patch + x % patch
        kernels = output[: 2 * motions * taps].view(motions, 2, taps).softmax(-1)
        start = 2 * motions * taps
        shares = output[start : start + (motions + 1) * 16].view(motions + 1, 16)[:, place]
        shares = shares.softmax(0)
        paint = output[start + (motions + 1) * 16 :].view(channels, 16)[channel, place].sigmoid()
        expected = shares[motions] * paint
        for motion in range(motions):
            down, along = kernels[motion]
            window = padded[0, channel, y : y + taps, x : x + taps]
            expected = expected + shares[motion] * (down @ window @ along)
        assert drawn[0, channel, y, x].item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_square_matches_its_shifted_copy_best() -> None:
    net = make_net()
    before = torch.rand(1, 1, SIZE, SIZE)
    frame = before.roll((2, -2), (2, 3))
    matches = net._matches(net._patches(frame), before)
    # Shifts of -2, 0 and 2 pixels down and along; the copy from above and from the right.
    assert matches.shape == (1, 3, 3, 9) and matches[0, 1, 1].argmax() == 0 * 3 + 2
    assert matches.sum(-1).abs().max() < 1e-4
    assert torch.equal(net._frame(net._patches(frame), 1), frame)


def test_frames_of_a_batch_equal_one_by_one() -> None:
    net, batch = make_net(), make_batch()
    together = net.predict(batch)["frames"]
    assert together.shape == (4, FUTURE, 1, SIZE, SIZE)
    assert together.min() >= 0 and together.max() <= 1
    for row in range(4):
        alone = net.predict(Batch(*[tensor[row : row + 1] for tensor in batch]))["frames"]
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-6)


def test_frames_are_answered_from_those_that_are_seen_alone() -> None:
    """The frames to answer change nothing, and are not needed."""
    net, batch = make_net(), make_batch()
    expected = net.predict(batch)["frames"]
    short = Batch(batch.clip[:, :PAST], batch.target)
    assert torch.equal(net.predict(short)["frames"], expected)
    turned = batch.clip.clone()
    turned[:, PAST:] = 255 - turned[:, PAST:]
    assert torch.equal(net.predict(Batch(turned, batch.target))["frames"], expected)
    # The net reads its own first frame when it draws the second.
    states, before = net._start(batch.clip[:, 0].float() / 255), batch.clip[:, 0].float() / 255
    seen = batch.clip[:, :PAST].float() / 255
    drawn: list[Tensor] = []
    for frame in [*seen.unbind(1), None]:
        now = drawn[-1] if frame is None else frame
        states = net._read(now, before, states)
        drawn.append(net.draw(now, torch.cat([h for h, _ in states], -1)))
        before = now
    torch.testing.assert_close(torch.stack(drawn[-2:], 1), expected)


def test_the_loss_is_the_error_of_a_frame() -> None:
    net, batch = make_net(seen_weight=0.0), make_batch()
    clip = batch.clip.float() / 255
    difference = net.predict(batch)["frames"] - clip[:, PAST:]
    expected = difference.square().sum((2, 3, 4)).mean()
    torch.testing.assert_close(net.loss(batch), expected)
    net.train().progress = 0.0  # the first frame ahead alone
    first = difference[:, 0].square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(net.loss(batch), first)
    net.progress = 1.0
    torch.testing.assert_close(net.loss(batch), expected)


def test_a_net_with_classes_reads_the_frames_that_are_seen() -> None:
    net, batch = make_net(classes=3), make_batch()
    logits = net.predict(batch)["logits"]
    assert logits.shape == (4, 3) and set(net.predict(batch)) == {"logits"}
    turned = batch.clip.clone()
    turned[:, PAST:] = 0
    assert torch.equal(net.predict(Batch(turned, batch.target))["logits"], logits)
    backwards = Batch(batch.clip[:, :PAST].flip(1), batch.target)
    assert not torch.allclose(net.predict(backwards)["logits"], logits)


@pytest.mark.parametrize("net", [{"patch": 5}, {"kernel": 4}])
def test_sizes_that_do_not_fit_are_refused(net: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="expected a patch that divides the frames' 12 pixels"):
        make_net(**net)


def test_it_learns_to_move_a_point() -> None:
    """One pixel to the right in each frame: the last frame repeated has an error of 2."""
    net = make_net(hidden=[8], kernel=3, motions=1).train()
    clip = torch.zeros(12, PAST + FUTURE, 1, SIZE, SIZE, dtype=torch.uint8)
    for row, frame in itertools.product(range(12), range(PAST + FUTURE)):
        clip[row, frame, 0, row % SIZE, row // SIZE + 2 + frame] = 255
    batch = Batch(clip, torch.full((12,), -1))
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    net.progress = 1.0
    for _ in range(40):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    error = (net.predict(batch)["frames"] - clip[:, PAST:].float() / 255).square()
    assert error.sum((2, 3, 4)).mean() < 0.2


def test_it_learns_which_way_a_point_moves() -> None:
    """To the left or to the right, from the same places: no single frame tells."""
    net = make_net(classes=2, hidden=[8]).train()
    clip = torch.zeros(16, PAST, 1, SIZE, SIZE, dtype=torch.uint8)
    target = torch.arange(16) % 2
    for row, frame in itertools.product(range(16), range(PAST)):
        along = frame if target[row] else -frame
        clip[row, frame, 0, row // 2, 5 + along] = 255
    batch = Batch(clip, target)
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    for _ in range(40):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    assert (net.eval().predict(batch)["logits"].argmax(1) == target).all()


# --- the twin -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """The parts of Moving MNIST's twin."""
    data = twins.conf_of("moving_mnist")
    raw = twins.raw("moving_mnist", tmp_path_factory)
    return prepare.prepare(clip_rows.read(raw, data.columns), data)


def trained(name: str, parts: dict[str, pd.DataFrame], *overrides: str) -> SavedModel:
    """A model on its twin, with the conf of this checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        conf = config.model(name, overrides, shelf=True)
    return published.trained(conf, twins.conf_of("moving_mnist"), parts)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's
def test_on_the_twin_next_frames_beat_every_baseline_at_smoke(
    parts: dict[str, pd.DataFrame],
) -> None:
    """At smoke the squared error on test is 37.0; at standard it is 27.2."""
    model = trained("film", parts, "budget=smoke")
    test = parts["test"]
    error = model.score(model.answer(test), test)["mse"]
    errors = {}
    for name, fit in model.task.baselines("clips").items():
        answers = model.fit_baseline(fit, parts)(test)
        errors[name] = model.score(answers, test)["mse"]
    assert error < 0.96 * min(errors.values())  # the mean frame has 39.8
    assert error < 0.7 * min(errors["motion"], errors["last_frame"])  # 59.2 and 73.6


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's
def test_on_the_twin_motion_is_classified_better_than_by_pictures(
    parts: dict[str, pd.DataFrame],
) -> None:
    """By the conf of the budget standard; convolutional nets see the last frame or the mean."""
    model = trained("motion", parts)
    test = parts["test"]
    scores = model.score(model.answer(test), test)
    further = [{"cnn_mean_frame": {"max_epochs": 6}}]
    answer = model.fit_baseline(model.task.baselines("clips", further)["cnn_mean_frame"], parts)
    mean_frame = model.score(answer(test), test)
    assert scores["accuracy"] > mean_frame["accuracy"] + 0.05
    assert scores["log_loss"] < mean_frame["log_loss"] - 0.05
