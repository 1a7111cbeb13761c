"""Convolutional net for pictures: residual and batch-normalised, trained from scratch."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError
from ..kinds.images.encoder import Batch
from . import blocks

Size = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]

# The logits are divided by the root of the features' number and multiplied by this (Page, "How to
# Train Your ResNet", 2018, takes 1/8 for 512 features). The features are means of rectified
# channels, all of them positive, so the loss is steep along their common direction: its curvature
# there is twice the variance of the label times the mean square of the features, at first
# 2 * 0.25 * 0.65 for each of them, 83 for 256. With a momentum of 0.9 Nesterov's method diverges
# where the curvature times the rate exceeds 1.36, here at rates above 0.016: the loss of a small
# set leapt from 0.3 to 1.7. The division leaves a curvature of 1.3, whatever the width. On the twin
# 2 and 4 train alike.
LOGIT_SCALE = 2.0


def convolution(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution, batch normalisation (Ioffe and Szegedy 2015) and ReLU.

    Height and width are divided by the stride, rounded up.
    """
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """x + f(x), f two convolutions (He et al., "Deep Residual Learning", CVPR 2016)."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = nn.Sequential(convolution(channels, channels), convolution(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class CNN(nn.Module):
    """A first convolution, then stages of pooling, a wider convolution and a residual pair.

    The logits are linear in the spatial mean of the last stage. Training pictures are augmented
    (see `augment`) and labels smoothed (Szegedy et al. 2016). A prediction is the mean of the
    logits of the picture and of its mirror image, unless `mirror` is false, for pictures whose
    mirror image shows something else, such as digits.

    Weights and pictures have the channels-last memory format, in which the CPU convolves fastest.
    Raises UsageError if the stages leave no pixel of pictures of `size` pixels a side.
    """

    OUTPUTS: ClassVar[tuple[str, ...]] = ("logits",)
    progress = 0.0
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: int,
        size: int,
        classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        widths: Annotated[list[Size], Field(min_length=1)],
        stride: Annotated[int, Field(ge=1, le=4)],
        mirror: bool,
        zoom: Annotated[float, Field(ge=1)],
        rotation: Annotated[float, Field(ge=0, le=180)],
        light: Share,
        colour: Share,
        hole: Share,
        label_smoothing: Share,
    ):
        super().__init__()
        last_side = -(-size // stride) // 2 ** (len(widths) - 1)
        if last_side == 0:
            raise UsageError(
                f"widths are {len(widths)}, and stride is {stride}: nothing is left of pictures of"
                f" {size} pixels; take fewer widths or a smaller stride, or set a larger `size` in"
                " the data set's conf"
            )
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.mirror = mirror
        self.zoom = zoom
        self.rotation = rotation
        self.light = light
        self.colour = colour
        self.hole = hole
        self.label_smoothing = label_smoothing
        stages = [convolution(channels, widths[0], stride)]
        for n_in, n_out in pairwise(widths):
            stages.append(nn.Sequential(nn.MaxPool2d(2), convolution(n_in, n_out), Residual(n_out)))
        self.body = nn.Sequential(*stages)
        self.head = nn.Linear(widths[-1], classes)
        self.scale = LOGIT_SCALE / math.sqrt(widths[-1])
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (rows, classes) of pictures in 0..1, (rows, channels, height, width)."""
        # float(): logits stay float32 under autocast to bfloat16.
        return self.scale * self.head(self.last_stage(x).mean((2, 3))).float()

    def last_stage(self, x: Tensor) -> Tensor:
        """Features of pictures in 0..1 before the spatial mean, (rows, widths[-1], h, w)."""
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.body(x)

    def augment(self, x: Tensor) -> Tensor:
        """Random variants of pictures in 0..1; shape and range stay, and the label still holds.

        A window of 1/zoom to 1 of the picture's area, rotated by up to `rotation` degrees to either
        side and mirrored with probability 1/2 (`mirror`); a change of contrast (up to the share
        `light`), brightness (half of it) and the balance of the channels (half of `colour`); a
        square hole whose side is the share `hole` of the picture's, filled with the training mean
        (DeVries and Taylor 2017).
        """
        return self._cut_hole(self._change_light(self._warp(x)))

    def _warp(self, x: Tensor) -> Tensor:
        """Zoom, rotation and mirroring, by one affine map of the sampling grid per picture."""
        side = _uniform(x, 1 / self.zoom, 1).sqrt()  # area is the square of the side
        angle = _uniform(x, -self.rotation, self.rotation) * (math.pi / 180)
        if self.mirror:
            sign = _uniform(x, 0, 1).lt(0.5) * -2.0 + 1
        else:
            sign = torch.ones_like(side)
        shift_x = _uniform(x, -1, 1) * (1 - side)
        shift_y = _uniform(x, -1, 1) * (1 - side)
        cos, sin = side * angle.cos(), side * angle.sin()
        entries = [sign * cos, -sin, shift_x, sign * sin, cos, shift_y]
        theta = torch.stack(entries, 1).view(len(x), 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)

    def _change_light(self, x: Tensor) -> Tensor:
        contrast = _uniform(x, 1 - self.light, 1 + self.light, 1, 1, 1)
        brightness = _uniform(x, -self.light, self.light, 1, 1, 1) / 2
        balance = _uniform(x, -self.colour, self.colour, x.shape[1], 1, 1) / 2
        # (x - mean) * contrast + mean + brightness + balance, in one pass over the pixels.
        shift = self.mean * (1 - contrast) + brightness + balance
        return torch.addcmul(shift, x, contrast).clamp_(0, 1)

    def _cut_hole(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        in_rows = self._in_hole(x, height)
        in_cols = self._in_hole(x, width)
        in_hole = in_rows[:, None, :, None] & in_cols[:, None, None, :]
        return torch.where(in_hole, self.mean, x)

    def _in_hole(self, x: Tensor, length: int) -> Tensor:
        """Which of `length` pixels along an axis the hole covers, (rows, length) bool."""
        pixel = torch.arange(length, device=x.device) + 0.5
        center = _uniform(x, 0, length, 1)
        return (pixel - center).abs() < self.hole * length / 2

    def loss(self, batch: Batch) -> Tensor:
        """Cross entropy; in training of augmented pictures and smoothed labels."""
        x = batch.image.float() / 255
        if not self.training:
            return F.cross_entropy(self(x), batch.target)
        logits = self(self.augment(x))
        return F.cross_entropy(logits, batch.target, label_smoothing=self.label_smoothing)

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """`logits` (rows, classes), averaged with those of the mirror image if `mirror`."""
        x = batch.image.float() / 255
        return {"logits": self._with_mirror_image(self(x), x)}

    def loss_and_outputs(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """`loss` in evaluation mode, of the pictures without their mirror images, and `predict`."""
        x = batch.image.float() / 255
        logits = self(x)
        outputs = {"logits": self._with_mirror_image(logits, x)}
        return F.cross_entropy(logits, batch.target), outputs

    def _with_mirror_image(self, logits: Tensor, x: Tensor) -> Tensor:
        """The logits of pictures x, averaged with those of their mirror images if `mirror`."""
        if not self.mirror:
            return logits
        return (logits + self(x.flip(3))) / 2

    @torch.no_grad()
    def grad_cam(self, batch: Batch) -> Tensor:
        """Evidence for each class by place in the picture, (rows, classes, h, w), 0 or more.

        Selvaraju et al., "Grad-CAM", ICCV 2017: relu(sum_k a_ck A_k), where A_k are the channels
        of the last stage and a_ck is the spatial mean of the gradient of class c's score by A_k.
        The score is the logit less the mean of all logits, since a constant added to all logits
        changes no probability. As the logits are linear in the spatial mean, the gradient is the
        head's scaled weight divided by the number of places, and no backward pass is needed.
        """
        stage = self.last_stage(batch.image.float() / 255)
        weight = self.scale * self.head.weight
        gradient = (weight - weight.mean(0)) / stage[0, 0].numel()
        return torch.einsum("rkhw,ck->rchw", stage, gradient).relu()

    def param_groups(self) -> list[blocks.ParamGroup]:
        """Kernels decay; biases and the scales and shifts of the normalisation do not."""
        return blocks.decay_weights_only(self)


def _uniform(x: Tensor, low: float, high: float, *shape: int) -> Tensor:
    """Uniform draws for each row of x, (rows, *shape), on the device of x."""
    return torch.empty(len(x), *shape, device=x.device).uniform_(low, high)
