"""Figures of writing: what the model writes, how its loss falls with context, what surprises it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from ...drawing import INK, Table, canvas, in_style, line, tooltip
from ...kinds.text.rows import TEXT
from .metrics import SEED_STEP, Encoder

if TYPE_CHECKING:
    from ...kinds.text.encoder import Batch
    from ...saved_model import SavedModel

TEMPERATURES = (0.5, 0.8, 1.1)
SAMPLES = 2  # texts at each temperature
WRITTEN = 300  # characters of each
PROMPT_LENGTH = 60  # characters of the test part that a sample continues
PASSAGE = 60  # characters of a surprising passage
BEFORE_PASSAGE = 40  # characters that are printed before it
PASSAGES = 12
CHARACTERS = 12  # rows of the table of characters


class Net(Protocol):
    """What the figures read of a net; `make check` compares it with the family."""

    def predict(self, batch: "Batch") -> dict[str, Tensor]:
        """`nats` and `hits`, each row from an empty state."""

    def write(
        self,
        prompts: Sequence[Tensor],
        length: int,
        temperature: float,
        top_k: int,
        seeds: Sequence[int],
    ) -> Tensor:
        """Codes that continue each prompt."""


class Places(NamedTuple):
    """The mean nats at the places 2^k to 2^(k+1) - 1 of a row, by the first place of each range."""

    first: np.ndarray
    nats: np.ndarray


@in_style
def figures(
    answers: pd.DataFrame,
    rows: pd.DataFrame,
    columns: object,
    baselines: Mapping[str, pd.DataFrame],
    model: "SavedModel",
) -> dict[str, Figure | Table]:
    """Figures and tables by name; `answers` are those to the test part."""
    encoder = cast(Encoder, model.encoder)
    net = cast(Net, model.net)
    batch = encoder.encode(rows)
    alone = net.predict(batch)["nats"].double().numpy()
    lengths = rows[TEXT].str.len().to_numpy()
    by_name = {"model": answers, **baselines}
    return {
        "context": _context(by_place(alone, lengths), by_name),
        "samples": _samples(net, encoder, rows, batch),
        "surprising": _surprising(answers, rows, baselines),
        "characters": _characters(answers, rows, baselines),
    }


# --- the loss by place in the context -----------------------------------------------------------


def by_place(nats: np.ndarray, lengths: np.ndarray) -> Places:
    """The mean of `nats`, (rows, longest), over ranges of places that double in length."""
    is_text = np.arange(nats.shape[1]) < lengths[:, None]
    first = []
    means = []
    start = 0
    while start < nats.shape[1]:
        end = 2 * start + 1
        inside = is_text[:, start:end]
        if inside.any():
            first.append(start + 1)
            means.append(float(nats[:, start:end][inside].mean()))
        start = end
    return Places(np.array(first), np.array(means))


def _context(places: Places, by_name: Mapping[str, pd.DataFrame]) -> Figure:
    figure = canvas("Loss by place in the context", height=4.2)
    axes = figure.add_subplot()
    ranges = np.arange(len(places.first))
    axes.plot(ranges, places.nats, marker="o", markersize=3, label="model", **line(0))
    for index, (name, table) in enumerate(by_name.items()):
        if name != "model":
            axes.axhline(_mean(table), label=name, **line(index))
    carried = _mean(by_name["model"])
    axes.axhline(carried, color=INK, linewidth=0.8, label="model, state carried")
    texts = [f"{first:,}" for first in places.first]
    axes.set_xticks(ranges, texts, rotation=45)
    axes.set(xlabel="place, from this one to the next mark", ylabel="nats per character")
    axes.legend()
    for place, (first, nats) in enumerate(zip(places.first, places.nats, strict=True)):
        text = f"from place {first:,} on: {nats:.4f} nats"
        tooltip(axes, (place - 0.5, place + 0.5), (0, 1), text, axes.get_xaxis_transform())
    figure.set_label(
        f"The mean loss of the model at the places of a row, from an empty state: from"
        f" {places.nats[0]:.2f} nats at the first character to {places.nats[-1]:.2f} from place"
        f" {places.first[-1]:,} on. It falls as long as the model uses what it has read. With the"
        f" state carried from row to row it is {carried:.3f} in the mean."
    )
    return figure


def _mean(answers: pd.DataFrame) -> float:
    return float(np.concatenate(list(answers["nats"])).mean())


# --- samples ------------------------------------------------------------------------------------


def _samples(net: Net, encoder: Encoder, rows: pd.DataFrame, batch: "Batch") -> Table:
    prompt = rows[TEXT].iloc[0][:PROMPT_LENGTH]
    codes = batch.text[0, : 1 + len(prompt)]
    temperatures = []
    texts = []
    for temperature in TEMPERATURES:
        seeds = [SEED_STEP * seed for seed in range(1, 1 + SAMPLES)]
        written = net.write([codes] * SAMPLES, WRITTEN, temperature, 0, seeds)
        temperatures += [temperature] * SAMPLES
        texts += [encoder.decode(sample) for sample in written.tolist()]
    return Table(
        "Samples at three temperatures",
        f"What the model writes after the first {len(prompt)} characters of the test part,"
        f" {prompt!r}: {WRITTEN} characters, drawn with two seeds. A lower temperature keeps to"
        " what is likely.",
        pd.DataFrame({"temperature": temperatures, "text": texts}),
    )


# --- what surprises -----------------------------------------------------------------------------


def _surprising(
    answers: pd.DataFrame, rows: pd.DataFrame, baselines: Mapping[str, pd.DataFrame]
) -> Table:
    """The passages of the highest mean loss that do not overlap."""
    text = "".join(rows[TEXT])
    nats = np.concatenate(list(answers["nats"]))
    width = min(PASSAGE, len(nats))
    sums = np.concatenate([[0.0], np.cumsum(nats)])
    means = (sums[width:] - sums[:-width]) / width
    left = means.copy()
    starts: list[int] = []
    while len(starts) < PASSAGES and np.isfinite(left).any():
        start = int(left.argmax())
        starts.append(start)
        left[max(start - width + 1, 0) : start + width] = -np.inf
    table: dict[str, list[object]] = {
        "before": [text[max(start - BEFORE_PASSAGE, 0) : start] for start in starts],
        "passage": [text[start : start + width] for start in starts],
        "nats per character": [round(float(means[start]), 2) for start in starts],
    }
    for name, other in baselines.items():
        values = np.concatenate(list(other["nats"]))
        table[name] = [round(float(values[start : start + width].mean()), 2) for start in starts]
    return Table(
        "The most surprising passages",
        f"The {len(starts)} passages of {width} characters of the test part with the highest loss,"
        " beside what the baselines lose there.",
        pd.DataFrame(table),
    )


def _characters(
    answers: pd.DataFrame, rows: pd.DataFrame, baselines: Mapping[str, pd.DataFrame]
) -> Table:
    """Which characters the loss consists of."""
    frame = pd.DataFrame({"character": list("".join(rows[TEXT]))})
    for name, of_name in {"model": answers, **baselines}.items():
        frame[name] = np.concatenate(list(of_name["nats"]))
    by_character = frame.groupby("character").agg(["sum", "mean"])
    share = by_character[("model", "sum")] / by_character[("model", "sum")].sum()
    most = share.sort_values(ascending=False, kind="stable").index[:CHARACTERS]
    table: dict[str, list[object]] = {
        "character": [repr(character) for character in most],
        "share of the loss": [round(float(share[character]), 3) for character in most],
    }
    for name in ("model", *baselines):
        means = by_character[(name, "mean")]
        table[f"{name}, nats"] = [round(float(means[character]), 2) for character in most]
    return Table(
        "Where the loss is",
        f"The {len(most)} characters with the largest share of the model's loss on the test part,"
        " and the mean loss where they come next.",
        pd.DataFrame(table),
    )
