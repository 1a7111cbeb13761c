"""The convolutional net: its arithmetic by hand, what augmentation keeps, what an answer is the mean of."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sextant import saved_model, strict
from sextant.errors import UsageError
from sextant.families.cnn import CNN, Residual, convolution
from sextant.kinds.images.encoder import Batch

ROOT = Path(__file__).parents[2]
CONF = yaml.safe_load((ROOT / "conf/model/cnn.yaml").read_text(encoding="utf-8"))
STILL: dict[str, Any] = {
    "mirror": False,
    "zoom": 1.0,
    "rotation": 0.0,
    "light": 0.0,
    "colour": 0.0,
    "hole": 0.0,
    "label_smoothing": 0.0,
}
LIVELY: dict[str, Any] = {
    "mirror": True,
    "zoom": 1.7,
    "rotation": 15.0,
    "light": 0.3,
    "colour": 0.2,
    "hole": 0.3,
    "label_smoothing": 0.1,
}


def net(
    channels: int = 3,
    classes: int = 2,
    widths: Any = (5, 7, 11),
    stride: int = 1,
    size: int = 17,
    **how: Any,
) -> CNN:
    torch.manual_seed(0)
    mean, std = [0.4, 0.5, 0.6][:channels], [0.2, 0.25, 0.3][:channels]
    return CNN(
        channels, size, classes, mean, std, widths=list(widths), stride=stride, **LIVELY | how
    )


def batch(
    rows: int = 13, channels: int = 3, side: int = 17, classes: int = 2, seed: int = 1
) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(
        0, 256, (rows, channels, side, side), generator=generator, dtype=torch.uint8
    )
    return Batch(image, torch.arange(rows) % classes)


def plain(module: torch.nn.Module) -> torch.nn.Module:
    """A module whose convolutions add up what they see and whose normalisation, freshly made, changes nothing."""
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.ones_(part.weight)
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eps = 0.0
    return module.eval()


# --- arithmetic -------------------------------------------------------------------------------------------------------

RISING = torch.arange(1.0, 10).view(1, 1, 3, 3)


def test_a_convolution_by_hand():
    """1 to 9 in a square, each place replaced by the sum of its neighbourhood; nothing lies beyond the rim."""
    assert plain(convolution(1, 1))(RISING)[0, 0].tolist() == [
        [12, 21, 16],
        [27, 45, 33],
        [24, 39, 28],
    ]
    assert plain(convolution(1, 1, stride=2))(RISING)[0, 0].tolist() == [[12, 16], [24, 28]]
    assert plain(convolution(1, 1))(-RISING).abs().max() == 0  # ReLU


def test_a_residual_pair_adds_to_what_it_gets():
    twice = [[105, 154, 115], [168, 245, 182], [135, 196, 145]]  # the sums of the sums above
    assert (
        plain(Residual(1))(RISING)[0, 0].tolist() == (torch.tensor(twice) + RISING[0, 0]).tolist()
    )


@settings(max_examples=25, deadline=None)
@given(
    side=st.integers(1, 13),
    stride=st.integers(1, 4),
    n_in=st.integers(1, 5),
    n_out=st.integers(1, 5),
)
def test_a_convolution_is_the_sum_over_its_window(side, stride, n_in, n_out):
    generator = torch.Generator().manual_seed(side)
    x = torch.randn(2, n_in, side, side, generator=generator)
    module = convolution(n_in, n_out, stride).eval()
    weight, scale = module[0].weight.detach(), (1 + module[1].eps) ** -0.5
    padded = F.pad(x, (1, 1, 1, 1))
    expected = torch.tensor(
        [
            [
                [[(padded[r, :, i : i + 3, j : j + 3] * weight[o]).sum().item() for j in range(0, side, stride)]
                 for i in range(0, side, stride)]
                for o in range(n_out)
            ]
            for r in range(2)
        ]
    )  # fmt: skip
    with torch.no_grad():
        assert torch.allclose(module(x), expected.relu() * scale, atol=1e-5)


def test_the_logits_are_linear_in_the_mean_over_places():
    model = net(**STILL).eval()
    x = batch().image / 255
    with torch.no_grad():
        stages = model.body((x - model.mean) / model.std)
        assert stages.shape == (13, 11, 4, 4)  # 17 halved twice, rounded down
        by_hand = stages.flatten(2).mean(2) @ model.head.weight.T + model.head.bias
        assert torch.allclose(model(x), by_hand, atol=1e-5)


def test_the_parameters_by_count():
    """Each convolution 9 * n_in * n_out weights, and 2 * n_out of its normalisation; a stage has three."""
    widths, classes = [5, 7, 11], 2
    stages = sum(9 * (a * b + 2 * b * b) + 6 * b for a, b in zip(widths, widths[1:], strict=False))
    first, head = 9 * 3 * 5 + 2 * 5, 11 * classes + classes
    assert sum(p.numel() for p in net(widths=widths).parameters()) == first + stages + head


# --- augmentation -----------------------------------------------------------------------------------------------------


def test_augmentation_switched_off_changes_nothing():
    x = batch().image / 255
    assert torch.allclose(net(**STILL).augment(x), x, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_keeps_shape_and_range_and_does_not_touch_what_it_gets(channels):
    x = torch.rand(31, channels, 17, 13)
    before = x.clone()
    seen = net(channels).augment(x)
    assert seen.shape == x.shape and seen.min() >= 0 and seen.max() <= 1 and seen.isfinite().all()
    assert torch.equal(x, before) and not torch.allclose(seen, x, atol=0.05)


def test_a_mirror_image_every_other_time():
    x = batch(rows=211).image / 255
    seen = net(**STILL | {"mirror": True}).augment(x)
    turned = [torch.allclose(one, own.flip(2), atol=1e-5) for one, own in zip(seen, x, strict=True)]
    same = [torch.allclose(one, own, atol=1e-5) for one, own in zip(seen, x, strict=True)]
    assert all(a != b for a, b in zip(turned, same, strict=True)) and 70 < sum(turned) < 141


def test_a_hole_is_a_square_of_the_training_mean():
    model = net(**STILL | {"hole": 0.3})
    seen = model.augment(torch.zeros(97, 3, 20, 20))
    filled = (seen == model.mean).all(1)
    assert torch.equal(seen.abs().sum(1) > 0, filled)
    rows, across = filled.any(2).sum(1), filled.any(1).sum(1)
    assert filled.sum((1, 2)).tolist() == (rows * across).tolist()
    assert int(rows.max()) == int(across.max()) == 6 and int(filled.flatten(1).sum(1).min()) > 0


def test_a_zoom_shows_a_part_of_the_picture_upright_and_whole():
    """A ramp to the right stays one: every row is alike, rising, and within what there was."""
    ramp = torch.linspace(0, 1, 32).expand(29, 3, 32, 32)
    seen = net(**STILL | {"zoom": 4.0}).augment(ramp)
    assert torch.allclose(seen, seen[:, :, :1], atol=1e-5)
    assert (seen.diff(dim=3) > -1e-5).all() and seen.min() >= 0 and seen.max() <= 1
    spread = seen[:, 0, 0, -1] - seen[:, 0, 0, 0]
    assert 0.4 < spread.min() < 0.7 < 0.9 < spread.max() <= 1  # sides of 1/2 to 1


@pytest.mark.parametrize("angle", [15.0, 90.0])
def test_a_turned_disc_is_the_disc(angle):
    """But for the corners, where the picture beyond its rim is made up."""
    v, u = torch.meshgrid(torch.arange(41.0), torch.arange(41.0), indexing="ij")
    far = ((v - 20) ** 2 + (u - 20) ** 2).sqrt()
    disc = torch.sigmoid(5 - far / 2).expand(7, 3, 41, 41)
    seen = net(**STILL | {"rotation": angle}).augment(disc)
    assert ((seen - disc).abs() * (far < 20)).max() < 0.02


def test_light_moves_every_place_alike():
    grey = torch.full((23, 3, 7, 7), 0.5)
    seen = net(**STILL | {"light": 0.3, "colour": 0.2}).augment(grey)
    assert (
        torch.allclose(seen, seen[:, :, :1, :1].expand_as(seen))
        and (seen - 0.5).abs().max() <= 0.31
    )
    assert seen[:, 0, 0, 0].unique().numel() == 23  # each picture its own


def test_training_looks_askew_and_scoring_does_not():
    model, rows = net(), batch()
    model.eval()
    assert (
        model.loss(rows)
        == F.cross_entropy(model(rows.image.float() / 255), rows.target)
        == model.loss(rows)
    )
    model.train()
    torch.manual_seed(3)
    first = model.loss(rows)
    assert first != model.loss(rows)
    torch.manual_seed(3)
    assert first == model.loss(rows)


def test_smoothed_labels_by_hand():
    """The label gets 1 - s of the weight, and all classes share s."""
    model, rows = net(classes=5, **STILL | {"label_smoothing": 0.2}).train(), batch(classes=5)
    log = model(rows.image.float() / 255).log_softmax(1)
    by_hand = -(0.8 * log[torch.arange(13), rows.target] + 0.2 * log.mean(1)).mean()
    assert torch.allclose(model.loss(rows), by_hand, atol=1e-6)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_is_the_mean_over_the_picture_and_its_mirror_image():
    model, rows = net().eval(), batch()
    x = rows.image.float() / 255
    mirrored = Batch(rows.image.flip(3), rows.target)
    with torch.no_grad():
        logits = model.predict(rows)["logits"]
        assert torch.allclose(logits, torch.stack([model(x), model(x.flip(3))]).mean(0), atol=1e-6)
        assert torch.allclose(logits, model.predict(mirrored)["logits"], atol=1e-5)
        digits = net(mirror=False).eval()
        assert torch.equal(digits.predict(rows)["logits"], digits(x))


def test_an_answer_draws_nothing_and_is_the_same_alone_as_among_others():
    model, rows = net(), batch()
    state = torch.get_rng_state()
    together = saved_model.outputs(model, rows)["logits"]
    assert torch.equal(state, torch.get_rng_state())
    alone = [
        saved_model.outputs(model, Batch(*(t[[i]] for t in rows)))["logits"] for i in range(13)
    ]
    assert together.shape == (13, 2) and together.dtype == torch.float32
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)


# --- Grad-CAM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 5])
def test_grad_cam_is_what_autograd_makes_of_its_definition(classes):
    """Selvaraju et al., equations 1 and 2, with the gradient of each class's score taken by autograd."""
    model, rows = net(classes=classes).eval(), batch(rows=3, classes=classes)
    maps = model.grad_cam(rows)
    stage = model.last_stage(rows.image / 255).detach().requires_grad_()
    logits = model.head(stage.mean((2, 3)))
    assert torch.allclose(logits, model(rows.image / 255), atol=1e-5)
    for row, label in np.ndindex(3, classes):
        score = logits[row, label] - logits[row].mean()
        (gradient,) = torch.autograd.grad(score, stage, retain_graph=True)
        by_hand = (gradient[row].mean((1, 2))[:, None, None] * stage[row]).sum(0).relu()
        assert torch.allclose(maps[row, label], by_hand, atol=1e-7)
    assert (
        maps.shape == (3, classes, 4, 4) and maps.min() == 0 < maps.max() and not maps.requires_grad
    )


def test_grad_cam_heeds_nothing_that_no_probability_depends_on():
    model, rows = net().eval(), batch(rows=3)
    probabilities, maps = model(rows.image / 255).softmax(1), model.grad_cam(rows)
    with torch.no_grad():
        model.head.weight += torch.linspace(-1, 1, 11)  # of both classes alike
    assert torch.allclose(model(rows.image / 255).softmax(1), probabilities, atol=1e-5)
    assert torch.allclose(model.grad_cam(rows), maps, atol=1e-6)


def test_grad_cam_finds_the_corner_that_the_class_is_told_by():
    """A net that adds up brightness: the second class is the brighter one, and one corner alone is bright."""
    model = plain(net(channels=1, widths=(1, 1), size=16, **STILL))
    with torch.no_grad():
        model.mean.zero_()
        model.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    image = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    image[..., 10:, :6] = 255
    dark, bright = model.grad_cam(Batch(image, torch.ones(1, dtype=torch.int64)))[0]
    assert dark.max() == 0 and bright[4:, :4].max() == bright.max() > 0
    assert (
        bright[0].max() == bright[:, 7].max() == 0
    )  # the far sides, beyond the reach of the convolutions


# --- pieces -----------------------------------------------------------------------------------------------------------


def test_pieces_of_large_pictures_are_small():
    rows = Batch(
        torch.zeros(1000, 3, 64, 64, dtype=torch.uint8), torch.zeros(1000, dtype=torch.int64)
    )
    sizes = [len(piece.image) for piece in saved_model.chunks(rows)]
    assert sum(sizes) == 1000 and max(sizes) * 3 * 64 * 64 <= saved.NUMBERS_AT_ONCE
    narrow = Batch(torch.zeros(9000, 7), torch.zeros(9000, dtype=torch.int64))
    assert [len(piece.image) for piece in saved_model.chunks(narrow)] == [4096, 4096, 808]


def test_bfloat16_answers_are_near():
    model, rows = net().eval(), batch()
    exact = saved_model.outputs(model, rows)["logits"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = saved_model.outputs(model, rows)["logits"]
    assert rough.dtype == torch.float32 and torch.allclose(exact, rough, atol=0.05)


# --- training ---------------------------------------------------------------------------------------------------------


def test_every_parameter_learns():
    model = net().train()
    model.loss(batch()).backward()
    assert not [
        name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]


def test_the_groups_hold_every_parameter_once_and_decay_the_weights_alone():
    model = net()
    weights, others = model.param_groups()
    held = [id(p) for group in (weights, others) for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())
    assert others["weight_decay"] == 0 and "weight_decay" not in weights
    assert {p.ndim for p in weights["params"]} == {2, 4} and {p.ndim for p in others["params"]} == {
        1
    }


@pytest.mark.parametrize("classes", [2, 5])
def test_eight_pictures_are_learnt_by_heart(classes):
    model, rows = net(classes=classes, **STILL).train(), batch(rows=8, classes=classes)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(rows).backward()
        optimizer.step()
    assert model.loss(rows) < 0.1
    assert saved_model.outputs(model, rows)["logits"].argmax(1).tolist() == rows.target.tolist()


def test_the_same_seed_gives_the_same_net_and_it_comes_back_as_it_was_saved():
    one, other = net(), net()
    assert all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )
    sizes = {
        "channels": 3,
        "classes": 2,
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.25, 0.3],
        "size": 17,
    }
    built = saved_model.build("cnn", sizes, {"widths": [5, 7, 11], "stride": 1, **LIVELY})
    built.load_state_dict({name: t.contiguous() for name, t in one.state_dict().items()})
    rows = batch()
    assert torch.equal(
        saved_model.outputs(one, rows)["logits"], saved_model.outputs(built, rows)["logits"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5])
def test_a_net_that_can_be_made_can_look_and_a_deeper_one_is_refused(stages, stride):
    """At sizes about the powers of two: what torch can answer is taken, all else is refused before it is asked."""
    with torch.device("meta"):  # shapes alone, which is all that is asked
        deep = net(widths=[2] * stages, stride=stride, size=2**9)
        for size in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33):
            try:
                deep.body(torch.empty(2, 3, size, size))
            except RuntimeError:
                with pytest.raises(
                    UsageError,
                    match=f"widths are {stages}, and stride is {stride}: .* {size} pixels; take",
                ):
                    net(widths=[2] * stages, stride=stride, size=size)
            else:
                net(widths=[2] * stages, stride=stride, size=size)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stride": 0}, "`stride` is 0; input should be greater than or equal to 1"),
        ({"zoom": 0.5}, "`zoom` is 0.5; input should be greater than or equal to 1"),
        ({"widths": []}, r"`widths` is \[\]; list should have at least 1 item"),
        ({"label_smoothing": 1.0}, "`label_smoothing` is 1.0; input should be less than 1"),
        ({"mirror": 1}, "`mirror` is 1; input should be a valid boolean"),
        ({"miror": True}, "unknown key `miror`; did you mean `mirror`"),
    ],
)
def test_a_faulty_conf_is_refused_by_name(change, message):
    with pytest.raises(UsageError, match=message):
        strict.check(strict.signature_model(CNN), CONF["net"] | change, "conf")


@pytest.mark.slow
def test_the_chain_beats_logistic_regression_on_pixels_by_far(whole_chain):
    """Even at the smoke budget: the twin's classes are of shape and texture."""
    found = whole_chain.read_json("reports/metrics/cnn.json")
    assert found["test"]["accuracy"] > found["baselines"]["logistic_regression"]["accuracy"] + 0.15
    drawn = {
        path.stem.partition("-")[2] for path in (whole_chain.path / "reports/figures/cnn").iterdir()
    }
    assert drawn == {
        "curve",
        "roc",
        "calibration",
        "confusion",
        "worst",
        "grad_cam",
        "augmentation",
    }
    assert np.isfinite(
        [value for scores in found["baselines"].values() for value in scores.values()]
    ).all()
