"""Convolutional net for pictures: residual, batch-normalised, from scratch."""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError
from ..kinds.images.encoder import Batch

Size = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


def convolution(n_in: int, n_out: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution, batch normalisation (Ioffe and Szegedy 2015), ReLU; sides become side/stride, rounded up."""
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
    """A first convolution, then stages of half the side: pooling, a convolution to more channels, a residual pair.

    The logits are linear in the mean over all places of the last stage. In training every picture is met askew, zoomed,
    mirrored, in another light and with a hole in it (see `augment`), and its label is smoothed (Szegedy et al. 2016);
    an answer is the mean of the logits of the picture and of its mirror image, where `mirror` says that both show the
    same thing.

    Channels lie last in memory, which is how the CPU multiplies them fastest. Raises UsageError where the stages leave
    nothing of pictures of `size` pixels a side.
    """

    OUTPUTS = ("logits",)
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
        side = -(-size // stride) // 2 ** (len(widths) - 1)
        if not side:
            raise UsageError(
                f"widths are {len(widths)}, and stride is {stride}: nothing is left of pictures of {size} pixels;"
                " take fewer widths or a smaller stride, or set a larger `size` in the data set's conf"
            )
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.mirror, self.zoom, self.rotation = mirror, zoom, rotation
        self.light, self.colour, self.hole, self.label_smoothing = (
            light,
            colour,
            hole,
            label_smoothing,
        )
        stages = (
            nn.Sequential(nn.MaxPool2d(2), convolution(n_in, n_out), Residual(n_out))
            for n_in, n_out in zip(widths, widths[1:], strict=False)
        )
        self.body = nn.Sequential(convolution(channels, widths[0], stride), *stages)
        self.head = nn.Linear(widths[-1], classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> Tensor:
        """Logits (rows, classes) of pictures in 0..1, (rows, channels, height, width)."""
        return self.head(self.last_stage(x).mean((2, 3))).float()

    def last_stage(self, x: Tensor) -> Tensor:
        """What the head reads of pictures in 0..1: (rows, widths[-1], h, w), each place a neighbourhood of theirs."""
        x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.body(x)

    def augment(self, x: Tensor) -> Tensor:
        """Pictures in 0..1, each as it might also have been taken: shape and range stay, the label still holds.

        A rotated window of 1/zoom to 1 of the picture's area, mirrored every other time; contrast, brightness and the
        balance of the channels moved; a square hole in the training mean (DeVries and Taylor 2017).
        """
        rows, channels, height, width = x.shape

        def draw(low: float, high: float, *shape: int) -> Tensor:
            return torch.empty(rows, *shape, device=x.device).uniform_(low, high)

        side = draw(1 / self.zoom, 1).sqrt()
        angle = draw(-self.rotation, self.rotation) * (math.pi / 180)
        turn = draw(0, 1).lt(0.5) * -2.0 + 1 if self.mirror else torch.ones_like(side)
        over, down = draw(-1, 1) * (1 - side), draw(-1, 1) * (1 - side)
        cos, sin = side * angle.cos(), side * angle.sin()
        window = torch.stack([turn * cos, -sin, over, turn * sin, cos, down], 1).view(rows, 2, 3)
        grid = F.affine_grid(window, [rows, channels, height, width], align_corners=False)
        x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)

        contrast, shift = (
            draw(1 - self.light, 1 + self.light, 1, 1, 1),
            draw(-self.light, self.light, 1, 1, 1) / 2,
        )
        balance = draw(-self.colour, self.colour, channels, 1, 1) / 2
        x = ((x - self.mean) * contrast + self.mean + shift + balance).clamp(0, 1)

        def inside(length: int) -> Tensor:
            at = torch.arange(length, device=x.device) + 0.5
            return (at - draw(0, length, 1)).abs() < self.hole * length / 2  # (rows, length)

        return torch.where(
            inside(height)[:, None, :, None] & inside(width)[:, None, None, :], self.mean, x
        )

    def loss(self, batch: Batch) -> Tensor:
        """Cross entropy; in training of augmented pictures and smoothed labels."""
        x = batch.image.float() / 255
        if not self.training:
            return F.cross_entropy(self(x), batch.target)
        return F.cross_entropy(
            self(self.augment(x)), batch.target, label_smoothing=self.label_smoothing
        )

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """`logits` (rows, classes): the mean over the picture and its mirror image, where they show the same."""
        x = batch.image.float() / 255
        return {"logits": (self(x) + self(x.flip(3))) / 2 if self.mirror else self(x)}

    @torch.no_grad()
    def grad_cam(self, batch: Batch) -> Tensor:
        """Where in a picture the evidence for each class is, (rows, classes, h, w) from 0 up.

        Selvaraju et al., "Grad-CAM", ICCV 2017: relu(sum_k a_ck A_k), A the last stage's channels, a_ck the mean over
        places of the gradient by A_k of the class's score; here the logit less the mean of all logits, since what all
        of them share moves no probability. As logits are linear in the mean over places, that gradient is the head's
        weight over the number of places, and nothing has to be derived.
        """
        stage = self.last_stage(batch.image.float() / 255)
        gradient = (self.head.weight - self.head.weight.mean(0)) / stage[0, 0].numel()
        return torch.einsum("rkhw,ck->rchw", stage, gradient).relu()

    def param_groups(self) -> list[dict[str, Any]]:
        """Weights decay; the scales and shifts of the normalisation and the biases do not."""
        weights = [p for p in self.parameters() if p.ndim > 1]
        others = [p for p in self.parameters() if p.ndim == 1]
        return [{"params": weights}, {"params": others, "weight_decay": 0.0}]
