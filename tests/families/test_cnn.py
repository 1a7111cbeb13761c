"""The convolutional net: arithmetic by hand, laws of augmentation, predictions, Grad-CAM."""

from typing import Any

import batches
import cases
import numpy as np
import pytest
import torch
import yaml
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sextant import plugins, saved_model, strict
from sextant.errors import UsageError
from sextant.families.cnn import CNN, Residual, convolution
from sextant.kinds.images.encoder import Batch

CONF = yaml.safe_load((ROOT / "conf/model/cnn.yaml").read_text(encoding="utf-8"))
NO_AUGMENTATION: dict[str, Any] = {
    "mirror": False,
    "zoom": 1.0,
    "rotation": 0.0,
    "light": 0.0,
    "colour": 0.0,
    "hole": 0.0,
    "label_smoothing": 0.0,
}
AUGMENTATION: dict[str, Any] = {
    "mirror": True,
    "zoom": 1.7,
    "rotation": 15.0,
    "light": 0.3,
    "colour": 0.2,
    "hole": 0.3,
    "label_smoothing": 0.1,
}
NET = {"widths": [5, 7, 11], "stride": 1, **AUGMENTATION}
PIXELS = 17  # a side


def make_net(channels: int = 3, classes: int = 2, size: int = PIXELS, **net: object) -> CNN:
    torch.manual_seed(0)
    mean, std = [0.4, 0.5, 0.6][:channels], [0.2, 0.25, 0.3][:channels]
    return CNN(channels, size, classes, mean, std, **NET | net)


def summing(module: torch.nn.Module) -> torch.nn.Module:
    """The module with convolution weights of 1, and a normalisation that changes nothing."""
    for part in module.modules():
        if isinstance(part, torch.nn.Conv2d):
            torch.nn.init.ones_(part.weight)
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eps = 0.0
    return module.eval()


# --- arithmetic ---------------------------------------------------------------------------------

ONE_TO_NINE = torch.arange(1.0, 10).view(1, 1, 3, 3)


def test_a_convolution_by_hand():
    """1 to 9 in a square; each becomes the sum of its 3 x 3 neighbourhood, with zeros outside."""
    sums = [[12, 21, 16], [27, 45, 33], [24, 39, 28]]
    assert summing(convolution(1, 1))(ONE_TO_NINE)[0, 0].tolist() == sums
    every_second = [[12, 16], [24, 28]]
    assert summing(convolution(1, 1, stride=2))(ONE_TO_NINE)[0, 0].tolist() == every_second
    assert summing(convolution(1, 1))(-ONE_TO_NINE).abs().max() == 0  # ReLU


def test_a_residual_pair_adds_to_its_input():
    sums_of_sums = [[105, 154, 115], [168, 245, 182], [135, 196, 145]]
    expected = torch.tensor(sums_of_sums) + ONE_TO_NINE[0, 0]
    assert summing(Residual(1))(ONE_TO_NINE)[0, 0].tolist() == expected.tolist()


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
    places = range(0, side, stride)
    expected = torch.empty(2, n_out, len(places), len(places))
    for row, out, down, along in np.ndindex(*expected.shape):
        i, j = places[down], places[along]
        window = padded[row, :, i : i + 3, j : j + 3]
        expected[row, out, down, along] = (window * weight[out]).sum()
    with torch.no_grad():
        assert torch.allclose(module(x), expected.relu() * scale, atol=1e-5)


def test_logits_are_linear_in_the_spatial_mean():
    net = make_net(**NO_AUGMENTATION).eval()
    x = batches.of_images().image / 255
    with torch.no_grad():
        stage = net.body((x - net.mean) / net.std)
        assert stage.shape == (13, 11, 4, 4)  # 17 halved twice, rounded down
        by_hand = stage.flatten(2).mean(2) @ net.head.weight.T + net.head.bias
        assert torch.allclose(net(x), by_hand * 2 / 11**0.5, atol=1e-5)


def test_the_number_of_parameters():
    """9 * n_in * n_out weights a convolution, 2 * n_out of its normalisation; three a stage."""
    widths, classes = [5, 7, 11], 2
    count = 9 * 3 * 5 + 2 * 5  # the first convolution
    for n_in, n_out in [(5, 7), (7, 11)]:
        count += 9 * (n_in * n_out + 2 * n_out * n_out) + 6 * n_out
    count += 11 * classes + classes  # the head
    assert sum(p.numel() for p in make_net(widths=widths).parameters()) == count


# --- augmentation -------------------------------------------------------------------------------


def test_augmentation_at_zero_strength_changes_nothing():
    x = batches.of_images().image / 255
    assert torch.allclose(make_net(**NO_AUGMENTATION).augment(x), x, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_keeps_shape_and_range_and_does_not_change_its_input(channels):
    x = torch.rand(31, channels, 17, 13)
    before = x.clone()
    augmented = make_net(channels).augment(x)
    assert augmented.shape == x.shape and augmented.isfinite().all()
    assert augmented.min() >= 0 and augmented.max() <= 1
    assert torch.equal(x, before) and not torch.allclose(augmented, x, atol=0.05)


def test_half_of_the_pictures_are_mirrored():
    x = batches.of_images(rows=211).image / 255
    augmented = make_net(**NO_AUGMENTATION | {"mirror": True}).augment(x)
    mirrored = ((augmented - x.flip(3)).abs() < 1e-5).flatten(1).all(1)
    unchanged = ((augmented - x).abs() < 1e-5).flatten(1).all(1)
    assert (mirrored != unchanged).all() and 70 < mirrored.sum() < 141


def test_a_hole_is_a_square_of_the_training_mean():
    net = make_net(**NO_AUGMENTATION | {"hole": 0.3})
    augmented = net.augment(torch.zeros(97, 3, 20, 20))
    in_hole = (augmented == net.mean).all(1)
    assert torch.equal(augmented.abs().sum(1) > 0, in_hole)
    height, width = in_hole.any(2).sum(1), in_hole.any(1).sum(1)
    area = in_hole.sum((1, 2))
    assert area.tolist() == (height * width).tolist() and int(area.min()) > 0
    assert int(height.max()) == int(width.max()) == 6  # 0.3 of 20; less at the edge


def test_a_zoomed_picture_is_upright_and_a_part_of_the_original():
    """A ramp to the right stays one: all rows are equal, rising, and in the range of the input."""
    ramp = torch.linspace(0, 1, 32).expand(29, 3, 32, 32)
    augmented = make_net(**NO_AUGMENTATION | {"zoom": 4.0}).augment(ramp)
    assert torch.allclose(augmented, augmented[:, :, :1], atol=1e-5)
    assert (augmented.diff(dim=3) > -1e-5).all()
    assert augmented.min() >= 0 and augmented.max() <= 1
    spread = augmented[:, 0, 0, -1] - augmented[:, 0, 0, 0]
    assert 0.4 < spread.min() < 0.7 < 0.9 < spread.max() <= 1  # sides of 1/2 to 1


@pytest.mark.parametrize("angle", [15.0, 90.0])
def test_a_rotated_disc_is_the_disc(angle):
    """Except in the corners, which show what lies beyond the picture's edge, a reflection."""
    y, x = torch.meshgrid(torch.arange(41.0), torch.arange(41.0), indexing="ij")
    radius = ((y - 20) ** 2 + (x - 20) ** 2).sqrt()
    disc = torch.sigmoid(5 - radius / 2).expand(7, 3, 41, 41)
    augmented = make_net(**NO_AUGMENTATION | {"rotation": angle}).augment(disc)
    assert ((augmented - disc).abs() * (radius < 20)).max() < 0.02


def test_a_change_of_light_is_the_same_at_every_place():
    grey = torch.full((23, 3, 7, 7), 0.5)
    augmented = make_net(**NO_AUGMENTATION | {"light": 0.3, "colour": 0.2}).augment(grey)
    assert torch.allclose(augmented, augmented[:, :, :1, :1].expand_as(augmented))
    assert (augmented - 0.5).abs().max() <= 0.31
    assert augmented[:, 0, 0, 0].unique().numel() == 23  # drawn for each picture


def test_pictures_are_augmented_in_training_only():
    net, batch = make_net(), batches.of_images()
    net.eval()
    plain = F.cross_entropy(net(batch.image.float() / 255), batch.target)
    assert net.loss(batch) == plain == net.loss(batch)
    net.train()
    torch.manual_seed(3)
    first = net.loss(batch)
    assert first != net.loss(batch)
    torch.manual_seed(3)
    assert first == net.loss(batch)


def test_smoothed_labels_by_hand():
    """The label gets 1 - s of the weight, and all classes share s."""
    net = make_net(classes=5, **NO_AUGMENTATION | {"label_smoothing": 0.2}).train()
    batch = batches.of_images(classes=5)
    log = net(batch.image.float() / 255).log_softmax(1)
    by_hand = -(0.8 * log[torch.arange(13), batch.target] + 0.2 * log.mean(1)).mean()
    assert torch.allclose(net.loss(batch), by_hand, atol=1e-6)


# --- predictions --------------------------------------------------------------------------------


def test_a_prediction_is_the_mean_over_the_picture_and_its_mirror_image():
    net, batch = make_net().eval(), batches.of_images()
    x = batch.image.float() / 255
    mirrored = Batch(batch.image.flip(3), batch.target)
    with torch.no_grad():
        logits = net.predict(batch)["logits"]
        assert torch.allclose(logits, torch.stack([net(x), net(x.flip(3))]).mean(0), atol=1e-6)
        assert torch.allclose(logits, net.predict(mirrored)["logits"], atol=1e-5)
        digits = make_net(mirror=False).eval()
        assert torch.equal(digits.predict(batch)["logits"], digits(x))


def test_a_prediction_draws_nothing_and_does_not_depend_on_the_other_rows():
    net, batch = make_net(), batches.of_images()
    state = torch.get_rng_state()
    together = saved_model.outputs(net, batch)["logits"]
    assert torch.equal(state, torch.get_rng_state())
    assert together.shape == (13, 2) and together.dtype == torch.float32
    for i in range(13):
        row = plugins.take(batch, slice(i, i + 1))
        alone = saved_model.outputs(net, row)["logits"]
        assert torch.allclose(together[i : i + 1], alone, atol=1e-5)


def test_large_pictures_are_predicted_in_small_chunks():
    large = torch.zeros(1000, 3, 64, 64, dtype=torch.uint8)
    batch = Batch(large, torch.zeros(1000, dtype=torch.int64))
    sizes = [len(chunk.image) for chunk in saved_model.chunks(batch)]
    assert sum(sizes) == 1000 and max(sizes) * 3 * 64 * 64 <= saved_model.CHUNK_NUMBERS
    narrow = Batch(torch.zeros(9000, 7), torch.zeros(9000, dtype=torch.int64))
    assert [len(chunk.image) for chunk in saved_model.chunks(narrow)] == [4096, 4096, 808]


def test_bfloat16_predictions_are_close():
    net, batch = make_net().eval(), batches.of_images()
    exact = saved_model.outputs(net, batch)["logits"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = saved_model.outputs(net, batch)["logits"]
    assert rough.dtype == torch.float32 and torch.allclose(exact, rough, atol=0.05)


# --- Grad-CAM -----------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 5])
def test_grad_cam_equals_its_definition_by_autograd(classes):
    """Selvaraju et al., equations 1 and 2, with the gradient of each class's score by autograd."""
    net, batch = make_net(classes=classes).eval(), batches.of_images(rows=3, classes=classes)
    maps = net.grad_cam(batch)
    stage = net.last_stage(batch.image / 255).detach().requires_grad_()
    logits = net.head(stage.mean((2, 3))) * 2 / 11**0.5
    assert torch.allclose(logits, net(batch.image / 255), atol=1e-5)
    for row, label in np.ndindex(3, classes):
        score = logits[row, label] - logits[row].mean()
        (gradient,) = torch.autograd.grad(score, stage, retain_graph=True)
        by_hand = (gradient[row].mean((1, 2))[:, None, None] * stage[row]).sum(0).relu()
        assert torch.allclose(maps[row, label], by_hand, atol=1e-7)
    assert maps.shape == (3, classes, 4, 4) and not maps.requires_grad
    assert maps.min() == 0 < maps.max()


def test_grad_cam_ignores_what_changes_no_probability():
    net, batch = make_net().eval(), batches.of_images(rows=3)
    probs, maps = net(batch.image / 255).softmax(1), net.grad_cam(batch)
    with torch.no_grad():
        net.head.weight += torch.linspace(-1, 1, 11)  # for both classes alike
    assert torch.allclose(net(batch.image / 255).softmax(1), probs, atol=1e-5)
    assert torch.allclose(net.grad_cam(batch), maps, atol=1e-6)


def test_grad_cam_marks_the_corner_that_decides():
    """A net that sums brightness: class 2 is the brighter one, and one corner is bright."""
    net = summing(make_net(channels=1, widths=[1, 1], size=16, **NO_AUGMENTATION))
    with torch.no_grad():
        net.mean.zero_()
        net.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    image = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    image[..., 10:, :6] = 255
    dark, bright = net.grad_cam(Batch(image, torch.ones(1, dtype=torch.int64)))[0]
    assert dark.max() == 0 and bright[4:, :4].max() == bright.max() > 0
    # The opposite edges, which the convolutions of the corner do not reach.
    assert bright[0].max() == bright[:, 7].max() == 0


# --- training -----------------------------------------------------------------------------------


def test_every_parameter_has_a_gradient():
    net = make_net().train()
    net.loss(batches.of_images()).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_parameter_groups_hold_every_parameter_once_and_decay_kernels_only():
    net = make_net()
    kernels, others = net.param_groups()
    grouped = [id(p) for group in (kernels, others) for p in group["params"]]
    assert sorted(grouped) == sorted(id(p) for p in net.parameters())
    assert others["weight_decay"] == 0 and "weight_decay" not in kernels
    assert {p.ndim for p in kernels["params"]} == {2, 4}
    assert {p.ndim for p in others["params"]} == {1}


@pytest.mark.parametrize("classes", [pytest.param(2, marks=pytest.mark.slow), 5])
def test_the_net_overfits_eight_pictures(classes):
    net = make_net(classes=classes, **NO_AUGMENTATION).train()
    batch = batches.of_images(rows=8, classes=classes)
    optimizer = torch.optim.AdamW(net.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        net.loss(batch).backward()
        optimizer.step()
    assert net.loss(batch) < 0.1
    assert saved_model.outputs(net, batch)["logits"].argmax(1).tolist() == batch.target.tolist()


def test_the_same_seed_gives_the_same_net_and_saved_weights_restore_it():
    net, same_seed = make_net(), make_net()
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, same_seed.state_dict()[name]), name
    sizes = {
        "channels": 3,
        "classes": 2,
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.25, 0.3],
        "size": PIXELS,
    }
    restored = saved_model.build("cnn", sizes, NET)
    weights = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    restored.load_state_dict(weights)
    batch = batches.of_images()
    expected = saved_model.outputs(net, batch)["logits"]
    assert torch.equal(saved_model.outputs(restored, batch)["logits"], expected)


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("stages", [1, 2, 3, 4, 5])
def test_a_net_that_leaves_no_pixel_is_refused_and_any_other_runs(stages, stride):
    """At sizes around the powers of two: refused by the constructor exactly where torch raises."""
    with torch.device("meta"):  # shapes only
        deep = make_net(widths=[2] * stages, stride=stride, size=2**9)
        for size in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33):
            try:
                deep.body(torch.empty(2, 3, size, size))
            except RuntimeError:
                message = (
                    f"widths are {stages}, and stride is {stride}: .* {size} pixels; take fewer"
                )
                with pytest.raises(UsageError, match=message):
                    make_net(widths=[2] * stages, stride=stride, size=size)
            else:
                make_net(widths=[2] * stages, stride=stride, size=size)


@cases.each(
    ("change", "message"),
    [
        ({"stride": 0}, "`stride` is 0; input should be greater than or equal to 1"),
        ({"zoom": 0.5}, "`zoom` is 0.5; input should be greater than or equal to 1"),
        ({"widths": []}, r"`widths` is \[\]; expected 1 or more entries"),
        ({"label_smoothing": 1.0}, "`label_smoothing` is 1.0; input should be less than 1"),
        ({"mirror": 1}, "`mirror` is 1; input should be a valid boolean"),
        ({"miror": True}, "unknown key `miror`; did you mean `mirror`"),
    ],
)
def test_a_faulty_conf_is_refused_by_name(change, message):
    with pytest.raises(UsageError, match=message):
        strict.check(strict.signature_model(CNN), CONF["net"] | change, "conf")


@pytest.mark.slow
def test_the_pipeline_beats_logistic_regression_on_pixels_by_far(whole_pipeline):
    """Even at the smoke budget: the classes of the twin differ in shape and texture."""
    metrics = whole_pipeline.read_json("reports/metrics/cnn.json")
    baseline = metrics["baselines"]["logistic_regression"]["accuracy"]
    assert metrics["test"]["accuracy"] > baseline + 0.15
    drawn = set()
    for path in (whole_pipeline.path / "reports/figures/cnn").iterdir():
        drawn.add(path.stem.partition("-")[2])
    assert drawn == {
        "curve",
        "roc",
        "calibration",
        "confusion",
        "worst",
        "grad_cam",
        "augmentation",
    }
    for scores in metrics["baselines"].values():
        assert np.isfinite(list(scores.values())).all()
