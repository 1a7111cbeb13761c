"""Convolutional LSTM for clips: the next frames of a film, or its class."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UsageError
from ..kinds.clips.encoder import Batch
from . import blocks

Size = Annotated[int, Field(ge=1)]
State: TypeAlias = tuple[Tensor, Tensor]  # h and c, (rows, height, width, channels) each

MATCH_STEP = 2  # pixels between two shifts that are matched; strokes are two or three wide
CURRICULUM = 0.5  # the share of the training until which the frames ahead grow to all of them
DARK = -3.0  # the logit of the paint at first: most of a frame is dark
# Of a new layer, which so remembers from the start (Jozefowicz et al., ICML 2015).
FORGET_BIAS = 1.0


class Cell(nn.Module):
    """One layer of a convolutional LSTM (Shi et al., "Convolutional LSTM Network", NIPS 2015).

    With x and the state h side by side as z, and * a convolution:

        i, f, o = sigmoid(W_i * z + b_i), sigmoid(W_f * z + b_f), sigmoid(W_o * z + b_o)
        c <- f c + i tanh(W_u * z + b_u),   h <- o tanh(c)

    without the paper's connections from c to the gates. Each W is a depthwise convolution of
    `kernel` x `kernel` and a matrix at each place (Chollet, "Xception", CVPR 2017): of 64 channels
    and a kernel of 5 a step takes a twentieth of the multiplications of a full convolution, and in
    the same minutes the net sees so many more clips.
    """

    def __init__(self, n_in: int, channels: int, kernel: int):
        super().__init__()
        n_both = n_in + channels
        self.channels = channels
        self.around = nn.Conv2d(
            n_both, n_both, kernel, padding=kernel // 2, groups=n_both, bias=False
        )
        self.gates = nn.Linear(n_both, 4 * channels)
        with torch.no_grad():
            # At first mostly what is at the place itself.
            self.around.weight[:, :, kernel // 2, kernel // 2] += 1
            self.gates.bias.zero_()
            self.gates.bias[channels : 2 * channels] = FORGET_BIAS

    def forward(self, x: Tensor, state: State) -> State:
        """The next state for x, (rows, height, width, n_in)."""
        h, c = state
        z = torch.cat([x, h], -1).permute(0, 3, 1, 2)
        gates = self.gates(self.around(z).permute(0, 2, 3, 1))
        i, f, o, u = gates.split(self.channels, -1)
        c = f.sigmoid() * c + i.sigmoid() * u.tanh()
        return o.sigmoid() * c.tanh(), c


class ConvLSTM(nn.Module):
    """Layers of convolutional LSTM on the patches of each frame, read one after the other.

    A frame is cut into squares of `patch` pixels. What a place of the first layer reads is a linear
    map and ReLU of its square, of the change of that since the frame before, and of how well the
    square matches shifted copies of the frame before: the squared differences for shifts of up to
    `reach` pixels, less their mean (as the correlation layer of Dosovitskiy et al., "FlowNet", ICCV
    2015). No gradient passes through the matches.

    Without classes the net answers the next frames. After each frame it draws the next one, and
    after the last that it sees it reads its own. It draws a square as a mixture, chosen for each
    pixel, of `motions` shifted copies of the frame and of a square that it paints:

        y(p) = sum_g m_g(p) sum_s a_g(s_y) b_g(s_x) x(p + s) + m_0(p) paint(p)

    The shifts s reach `reach` pixels in each direction; a_g and b_g are softmaxes over them, one
    pair for each square, and m is a softmax over the mixture. That is a dynamic filter (De
    Brabandere et al., "Dynamic Filter Networks", NIPS 2016) with separable kernels. What a digit
    looks like is so copied and need not be learnt.

    The loss is the squared error of a frame, summed over its pixels. The frames that the net sees
    count too, each predicted from those before it, with the weight `seen_weight`: they teach the
    motion of one step. The frames ahead are few at first and grow to `future` in the first half of
    the training, which saves a quarter of the time.

    With classes its logits are read from the state after the last frame, averaged over the places.

    Raises UsageError for a patch that does not divide the frame's side, or an even kernel.
    """

    OUTPUTS: ClassVar[tuple[str, ...]] = ("frames", "logits")  # the second with classes alone
    progress = 0.0
    band: Tensor

    def __init__(
        self,
        channels: int,
        size: int,
        past: int,
        future: int,
        classes: int,
        *,
        patch: Annotated[int, Field(ge=1, le=16)],
        hidden: Annotated[list[Size], Field(min_length=1)],
        kernel: Annotated[int, Field(ge=1, le=15)],
        reach: Annotated[int, Field(ge=0, le=16)],
        motions: Annotated[int, Field(ge=1, le=8)],
        seen_weight: Annotated[float, Field(ge=0)],
    ):
        super().__init__()
        if size % patch or kernel % 2 == 0:
            raise UsageError(
                f"patch is {patch}, and kernel {kernel}; expected a patch that divides the frames'"
                f" {size} pixels, and an odd kernel"
            )
        self.past = past
        self.future = future
        self.patch = patch
        self.reach = reach
        self.motions = motions
        self.seen_weight = seen_weight
        self.answers_frames = not classes
        pixels = channels * patch**2
        matches = len(range(0, 2 * reach + 1, MATCH_STEP)) ** 2
        self.encoder = nn.Linear(2 * pixels + matches, hidden[0])
        sizes = [hidden[0], *hidden]
        self.cells = nn.ModuleList(
            Cell(n_in, n_out, kernel) for n_in, n_out in zip(sizes, hidden, strict=False)
        )
        self.hidden = hidden
        if classes:
            self.features = nn.Linear(sum(hidden), hidden[-1])
            self.head = nn.Linear(hidden[-1], classes)
            return
        self.taps = 2 * reach + 1
        # By place: two kernels of each motion, the shares of the mixture by pixel, and the paint.
        self.drawn = (2 * motions * self.taps, (motions + 1) * patch**2, pixels)
        self.decoder = nn.Linear(sum(hidden), sum(self.drawn))
        with torch.no_grad():
            self.decoder.bias.zero_()
            self.decoder.bias[-pixels:] = DARK
        # Kernels as matrices: a kernel times `band` maps the window around a patch to the patch.
        window = patch + 2 * reach
        band = torch.zeros(self.taps, patch, window)
        for tap in range(self.taps):
            for pixel in range(patch):
                band[tap, pixel, pixel + tap] = 1
        self.register_buffer("band", band.flatten(1), persistent=False)

    # --- frames and their patches ---

    def _patches(self, frame: Tensor) -> Tensor:
        """(rows, channels, size, size) to (rows, height, width, channels * patch * patch)."""
        rows, channels, size, _ = frame.shape
        side = size // self.patch
        cut = frame.view(rows, channels, side, self.patch, side, self.patch)
        return cut.permute(0, 2, 4, 1, 3, 5).flatten(3)

    def _frame(self, patches: Tensor, channels: int) -> Tensor:
        """The inverse of `_patches`."""
        rows, side = patches.shape[:2]
        cut = patches.view(rows, side, side, channels, self.patch, self.patch)
        size = side * self.patch
        return cut.permute(0, 3, 1, 4, 2, 5).reshape(rows, channels, size, size)

    def _start(self, frame: Tensor) -> list[State]:
        """The state of each layer before the first frame: zeros."""
        side = frame.shape[2] // self.patch
        states = []
        for channels in self.hidden:
            zeros = frame.new_zeros(len(frame), side, side, channels)
            states.append((zeros, zeros))
        return states

    def _read(self, frame: Tensor, before: Tensor, states: Sequence[State]) -> list[State]:
        """The states after one more frame, given that before it."""
        patches = self._patches(frame)
        changes = patches - self._patches(before)
        matches = self._matches(patches, before)
        x = F.relu(self.encoder(torch.cat([patches, changes, matches], -1)))
        after = []
        for cell, state in zip(self.cells, states, strict=True):
            h, c = cell(x, state)
            after.append((h, c))
            x = h
        return after

    @torch.no_grad()
    def _matches(self, patches: Tensor, before: Tensor) -> Tensor:
        """How well each square matches each shifted copy of the frame before, (rows, height, width,
        shifts): the negative squared difference, centred over the shifts."""
        window = self.patch + 2 * self.reach
        windows = F.pad(before, [self.reach] * 4).unfold(2, window, self.patch)
        windows = windows.unfold(3, window, self.patch).permute(0, 2, 3, 1, 4, 5)
        copies = windows.unfold(4, self.patch, MATCH_STEP).unfold(5, self.patch, MATCH_STEP)
        # (rows, height, width, channels, shifts, shifts, patch, patch)
        squares = patches.view(*copies.shape[:4], 1, 1, self.patch, self.patch)
        differences = (copies - squares).square_().flatten(6)
        # A product with ones sums many short rows faster than `sum`.
        ones = differences.new_ones(differences.shape[-1])
        errors = (differences @ ones).sum(3).flatten(3)
        return errors.mean(-1, keepdim=True) - errors

    # --- the next frame ---

    def draw(self, frame: Tensor, h: Tensor) -> Tensor:
        """The next frame of `frame`, (rows, channels, size, size), given the states h of all
        layers, (rows, height, width, channels of all)."""
        channels = frame.shape[1]
        kernels, mixture, paint = self.decoder(h).flatten(0, 2).split(self.drawn, -1)
        shifted = self._shifted(frame, kernels)
        painted = paint.sigmoid().view(-1, 1, channels, self.patch**2)
        shares = mixture.view(-1, self.motions + 1, 1, self.patch**2).softmax(1)
        patches = (shares * torch.cat([shifted, painted], 1)).sum(1)
        return self._frame(patches.view(*h.shape[:3], self.drawn[2]), channels)

    def _shifted(self, frame: Tensor, kernels: Tensor) -> Tensor:
        """Each motion's copy of the frame, by patch, (patches, motions, channels, pixels).

        kernels (patches, 2 * motions * taps) before their softmax, those of rows and of columns.
        """
        channels = frame.shape[1]
        window = self.patch + 2 * self.reach
        taps = kernels.view(-1, self.motions, 2, self.taps).softmax(-1)
        matrices = (taps @ self.band).view(-1, self.motions, 2, self.patch, window)
        padded = F.pad(frame, [self.reach] * 4)
        windows = padded.unfold(2, window, self.patch).unfold(3, window, self.patch)
        windows = windows.permute(0, 2, 3, 4, 1, 5).reshape(-1, window, channels * window)
        # First all rows of all motions in one product, then the columns of each motion.
        down = matrices[:, :, 0].flatten(1, 2) @ windows
        along = down.view(-1, self.patch * channels, window)
        copies = along @ matrices[:, :, 1].flatten(0, 1).transpose(1, 2)
        copies = copies.view(-1, self.motions, self.patch, channels, self.patch)
        return copies.transpose(2, 3).flatten(3)

    def _drawn(self, clip: Tensor, ahead: int) -> Tensor:
        """The frames after the first, as predicted: (rows, past - 1 + ahead, channels, ...).

        Up to the last frame that the net sees, each is predicted from the true ones before it.
        """
        states = self._start(clip[:, 0])
        before = clip[:, 0]
        frames: list[Tensor] = []
        for step in range(self.past - 1 + ahead):
            frame = clip[:, step] if step < self.past else frames[-1]
            states = self._read(frame, before, states)
            frames.append(self.draw(frame, torch.cat([h for h, _ in states], -1)))
            before = frame
        return torch.stack(frames, 1)

    # --- logits ---

    def _logits(self, clip: Tensor) -> Tensor:
        states = self._start(clip[:, 0])
        before = clip[:, 0]
        for step in range(self.past):
            states = self._read(clip[:, step], before, states)
            before = clip[:, step]
        means = torch.cat([h for h, _ in states], -1).mean((1, 2))
        return self.head(F.relu(self.features(means)))

    # --- the contract ---

    def loss(self, batch: Batch) -> Tensor:
        """The squared error of a frame, see the class; with classes the cross entropy."""
        clip = batch.clip.float() / 255
        if not self.answers_frames:
            return F.cross_entropy(self._logits(clip), batch.target)
        ahead = self.future
        if self.training:
            ahead = min(ahead, 1 + int(self.progress / CURRICULUM * self.future))
        return self._frame_loss(self._drawn(clip, ahead), clip)

    def _frame_loss(self, drawn: Tensor, clip: Tensor) -> Tensor:
        truth = clip[:, 1 : 1 + drawn.shape[1]]
        errors = (drawn - truth).square().sum((2, 3, 4))
        seen = errors[:, : self.past - 1]
        return errors[:, self.past - 1 :].mean() + self.seen_weight * seen.mean()

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """`frames` (rows, future, channels, size, size) in 0..1, from the first `past` frames; with
        classes `logits` (rows, classes)."""
        clip = batch.clip[:, : self.past].float() / 255
        if not self.answers_frames:
            return {"logits": self._logits(clip)}
        return {"frames": self._drawn(clip, self.future)[:, self.past - 1 :]}

    def loss_and_outputs(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """`loss` and `predict` from one pass."""
        clip = batch.clip.float() / 255
        if not self.answers_frames:
            logits = self._logits(clip)
            return F.cross_entropy(logits, batch.target), {"logits": logits}
        drawn = self._drawn(clip, self.future)
        return self._frame_loss(drawn, clip), {"frames": drawn[:, self.past - 1 :]}

    def param_groups(self) -> list[blocks.ParamGroup]:
        """Matrices and kernels decay; biases do not."""
        return blocks.decay_weights_only(self)
