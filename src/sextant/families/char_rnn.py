"""Recurrent net for text: stacked LSTM, GRU or classic cells that predict the next character."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, NamedTuple, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn

from ..errors import UsageError
from ..kinds.text.encoder import PADDING, UNKNOWN, Batch

Size = Annotated[int, Field(ge=1)]
State: TypeAlias = Tensor | tuple[Tensor, Tensor]  # h, or h and c; (layers, rows, hidden) each

CELLS: dict[str, Callable[..., nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
GATES = {"lstm": 4, "gru": 3}  # and candidates, of which the second one keeps the state
# Rows of a text through which `follow` carries one state. A longer text is read in several lanes at
# once, since one lane alone leaves the cores idle: a lane of 64 chunks of 2,000 characters is
# longer than the test part of Tiny Shakespeare, which is thus read as one sequence.
LANE_ROWS = 64
READ_AT_ONCE = 256  # characters of each row between two updates of the state, for the memory


class Window(NamedTuple):
    """What one step of a training reads: a window of each stream of text.

    text: (streams, 1 + characters), as Batch.text. memory: empty in the first window, then the
    state after the window before, which `loss` puts there.
    """

    text: Tensor
    memory: list[State]


class Streams(NamedTuple):
    """The training rows, for truncated backpropagation with carried state.

    The learner shuffles rows, and state is carried from one window to the next of a text. So the
    rows that it draws for w consecutive steps, w the windows of a row, are read side by side: each
    step reads a window of all of them, and the state is carried to the next step. A step thus has
    as many characters as its rows have, an epoch reads every row once, and a row begins without a
    state, as a prompt does.
    """

    text: Tensor  # (rows, 1 + longest), or (steps, batch_size, 1 + longest)
    window: Tensor  # of each row the characters of a window, the same for all

    def take(self, index: "Tensor | slice") -> "Streams":
        """The rows at an index."""
        return Streams(self.text[index], self.window[index])

    def steps(self) -> Iterator[Window]:
        """A window for each step of tensors of shape (steps, batch_size, ...)."""
        length = self.text.shape[-1] - 1
        windows = max(1, round(length / int(self.window.flatten()[0])))
        for rows in self.text.split(windows):
            streams = rows.flatten(0, 1)
            memory: list[State] = []
            # The last steps of a chunk may be fewer than the windows of a row: longer windows then.
            bounds = [round(length * step / len(rows)) for step in range(len(rows) + 1)]
            for start, end in itertools.pairwise(bounds):
                yield Window(streams[:, start : end + 1], memory)


class CharRNN(nn.Module):
    """Predicts each character from all before it, by a recurrent net with `cell` in its layers.

    `lstm`: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; `gru`: Cho et
    al. 2014; `rnn`: h_t = tanh(W x_t + U h_{t-1} + b), Elman 1990. x_t is an embedding of the
    character, or with `embedding: 0` one-hot; `tied` gives the output the weights of the embedding
    (Press and Wolf, EACL 2017). Dropout acts on the outputs of the embedding and of each layer, not
    from one step to the next (Zaremba, Sutskever and Vinyals 2014).

    Training backpropagates through `window` characters and carries the state on (see Streams);
    `loss` of other batches, and `predict`, read each row from an empty state.
    """

    OUTPUTS: ClassVar[tuple[str, ...]] = ("nats", "hits")
    progress = 0.0

    def __init__(
        self,
        characters: int,
        *,
        cell: Literal["lstm", "gru", "rnn"],
        hidden_size: Size,
        layers: Size,
        embedding: Annotated[int, Field(ge=0)],
        dropout: Annotated[float, Field(ge=0, lt=1)],
        tied: bool,
        window: Annotated[int, Field(ge=2)],
    ):
        super().__init__()
        self.characters = characters
        self.window = window
        self.embedding = nn.Embedding(characters, embedding) if embedding else None
        between_layers = dropout if layers > 1 else 0.0  # torch warns about dropout in one layer
        self.cells = CELLS[cell](
            embedding or characters, hidden_size, layers, dropout=between_layers
        )
        self.dropout = nn.Dropout(dropout)
        self.head = None if tied else nn.Linear(hidden_size, characters)
        self.bias = nn.Parameter(torch.zeros(characters)) if tied else None
        self._init_weights(cell)

    @staticmethod
    def check(net: Mapping[str, object]) -> None:
        """Raise UsageError for arguments that are each valid and do not go together."""
        if net["tied"] and net["embedding"] != net["hidden_size"]:
            raise UsageError(
                f"`tied` needs an embedding as wide as the cells; set embedding: "
                f"{net['hidden_size']}, or tied: false"
            )

    @torch.no_grad()
    def _init_weights(self, cell: str) -> None:
        if self.embedding is not None:
            self.embedding.weight.mul_(0.1)
        for name, weight in self.cells.named_parameters():
            if name.startswith("weight_hh"):
                # Orthogonal for each gate, so that the state neither grows nor fades at first.
                for gate in weight.split(weight.shape[1]):
                    nn.init.orthogonal_(gate)
            if cell in GATES and name.startswith("bias_ih"):
                # The gate that keeps the state starts open: the forget gate of the LSTM
                # (Jozefowicz et al., ICML 2015), and z of the GRU. torch orders gates i, f, g, o,
                # and r, z, n.
                n = len(weight) // GATES[cell]
                weight[n : 2 * n] += 1.0

    # --- the net ---

    def forward(self, text: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """The logits of the character after each one, and the state after the last.

        `text` is (rows, characters), the logits (characters, rows, codes).
        """
        codes = text.T.long().clamp_min(UNKNOWN)
        if self.embedding is not None:
            inputs = self.dropout(self.embedding(codes))
        else:
            inputs = nn.functional.one_hot(codes, self.characters).float()
        h, state = self.cells(inputs, state)
        return self._logits(self.dropout(h)), state

    def _logits(self, h: Tensor) -> Tensor:
        if self.head is not None:
            return self.head(h)
        assert self.embedding is not None
        return nn.functional.linear(h, self.embedding.weight, self.bias)

    # --- training ---

    def prepare(self, train: Batch) -> Streams:
        """The training rows as the steps read them."""
        return Streams(train.text, torch.full((len(train.text),), self.window))

    def loss(self, batch: Batch | Streams | Window) -> Tensor:
        """Mean nats of a character; a Window continues the state of the one before it."""
        if not isinstance(batch, Window):
            return self._mean_nats(batch.text, None)[0]
        loss, state = self._mean_nats(batch.text, batch.memory[0] if batch.memory else None)
        batch.memory[:] = [detached(state)]
        return loss

    def _mean_nats(self, text: Tensor, state: State | None) -> tuple[Tensor, State]:
        logits, state = self(text[:, :-1], state)
        targets = text[:, 1:].T.long()
        nats = nn.functional.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING, reduction="sum"
        )
        # Rows that all ended before this window have nothing to predict.
        return nats / (targets != PADDING).sum().clamp_min(1), state

    # --- scoring ---

    def predict(self, batch: Batch) -> dict[str, Tensor]:
        """`nats`, -log p of each character given those before it in its row, and `hits`, whether it
        was the likeliest; (rows, longest) each, 0 after the end of a row.
        """
        return self._scored(batch.text, None)[0]

    def follow(self, batch: Batch) -> dict[str, Tensor]:
        """As `predict`, with the state carried from each row to one that follows it.

        Up to LANE_ROWS rows are then one long sequence.
        """
        scores = {}
        for name in self.OUTPUTS:
            scores[name] = torch.zeros(batch.text[:, 1:].shape)
        lanes = lanes_of(batch.follows.tolist())
        state: State | None = None
        for place in range(max([len(lane) for lane in lanes], default=0)):
            # The longest lane is the first, so that those with a further row come first, too.
            going = [lane for lane in lanes if len(lane) > place]
            if state is not None:
                state = first_of(state, len(going))
            rows = torch.tensor([lane[place] for lane in going])
            part, state = self._scored(batch.text[rows], state)
            for name, values in part.items():
                scores[name][rows] = values.cpu()
        return scores

    @torch.no_grad()
    def _scored(self, text: Tensor, state: State | None) -> tuple[dict[str, Tensor], State | None]:
        parts: dict[str, list[Tensor]] = {name: [] for name in self.OUTPUTS}
        length = text.shape[1] - 1
        for start in range(0, length, READ_AT_ONCE):
            piece = text[:, start : start + READ_AT_ONCE + 1]
            logits, state = self(piece[:, :-1], state)
            targets = piece[:, 1:].T.long()
            is_text = targets != PADDING
            log_probs = logits.float().log_softmax(2)
            nats = -log_probs.gather(2, targets.clamp_min(UNKNOWN)[:, :, None])[:, :, 0]
            parts["nats"].append((nats * is_text).T)
            parts["hits"].append((logits.argmax(2) == targets).float().T)
        return {name: torch.cat(values, 1) for name, values in parts.items()}, state

    # --- writing ---

    @torch.no_grad()
    def write(
        self,
        prompts: Sequence[Tensor],
        length: int,
        temperature: float,
        top_k: int,
        seeds: Sequence[int],
    ) -> Tensor:
        """Codes that continue each prompt, (prompts, length) int64; each is drawn with its seed.

        A prompt is the codes of its characters, after that of the character before. The logits are
        divided by the `temperature`; at 0, and with `top_k` 1, the likeliest character is taken.
        `top_k` above 0 leaves the likeliest ones alone. The unknown character is never drawn.
        """
        draws = []
        for seed in seeds:
            draws.append(torch.rand(length, generator=torch.Generator().manual_seed(seed)))
        uniform = torch.stack(draws)
        logits, state = self._read(prompts)
        written = torch.zeros(len(prompts), length, dtype=torch.int64)
        for place in range(length):
            written[:, place] = drawn(logits, temperature, top_k, uniform[:, place])
            step, state = self(written[:, place : place + 1], state)
            logits = step[0]
        return written

    def _read(self, prompts: Sequence[Tensor]) -> tuple[Tensor, State]:
        """The logits after each prompt, (prompts, codes), and the state; they differ in length."""
        logits = []
        states: list[State] = []
        for prompt in prompts:
            state: State | None = None
            for piece in prompt.split(READ_AT_ONCE):
                after, state = self(piece[None], state)
            assert state is not None
            logits.append(after[-1])
            states.append(state)
        return torch.cat(logits), joined(states)


def drawn(logits: Tensor, temperature: float, top_k: int, uniform: Tensor) -> Tensor:
    """A code for each row of logits, (rows), by a number between 0 and 1 for each."""
    logits = logits.double()
    logits[:, UNKNOWN] = -torch.inf
    if temperature == 0:
        return logits.argmax(1)
    if 0 < top_k < logits.shape[1]:
        lowest = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < lowest, -torch.inf)
    # The largest logit is moved to 0 first, because a low temperature would overflow.
    scaled = (logits - logits.amax(1, keepdim=True)) / temperature
    below = scaled.softmax(1).cumsum(1)
    codes = torch.searchsorted(below, uniform[:, None].double() * below[:, -1:], right=True)[:, 0]
    return codes.clamp_max(logits.shape[1] - 1)


def lanes_of(follows: Sequence[bool]) -> list[list[int]]:
    """Rows in lanes: those that follow one another, LANE_ROWS at most; the longest lane first."""
    lanes: list[list[int]] = []
    for row, continues in enumerate(follows):
        if continues and lanes and len(lanes[-1]) < LANE_ROWS:
            lanes[-1].append(row)
        else:
            lanes.append([row])
    return sorted(lanes, key=len, reverse=True)


# --- the state of all cells ---------------------------------------------------------------------


def detached(state: State) -> State:
    """The state without its graph."""
    if isinstance(state, tuple):
        return state[0].detach(), state[1].detach()
    return state.detach()


def first_of(state: State, rows: int) -> State:
    """The state of the first rows."""
    if isinstance(state, tuple):
        return state[0][:, :rows].contiguous(), state[1][:, :rows].contiguous()
    return state[:, :rows].contiguous()


def joined(states: Sequence[State]) -> State:
    """The states of single rows as one."""
    h = torch.cat([state[0] if isinstance(state, tuple) else state for state in states], 1)
    c = [state[1] for state in states if isinstance(state, tuple)]
    return (h, torch.cat(c, 1)) if c else h
