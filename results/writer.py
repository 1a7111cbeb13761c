"""Memory: LSTM, GRU and classic cells side by side, on a planted fact and on Shakespeare.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/writer.py

The planted fact: scenes as those of the twin, with 0 to 2 lines between the first, which names a
person, and the last, which names the same one of four. Without a memory of the first line, the name
costs ln 4 = 1.386 nats. Shakespeare: the first 150,000 characters, and to score those from 87 to 90
% of the text, so that test is not touched. Each cell is small, is trained briefly and for equally
many steps, and has three seeds. Its learning rate is the one of three that is best on val (of
Shakespeare 84 to 87 %) with the first seed. Writes results/writer.md.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, cast

import numpy as np
import pandas as pd

from sextant import config, plugins, saved_model
from sextant.errors import run
from sextant.kinds.text.rows import TEXT
from sextant.kinds.text.rows.chunks import chunks_of
from sextant.kinds.text.twin import Twin, recalls, scenes
from sextant.published import cell as cell_of
from sextant.published import page as as_page
from sextant.published import publish, read_rows, refuse_arguments, trained
from sextant.tasks.writing.figures import by_place
from sextant.terminal import progress

if TYPE_CHECKING:
    from sextant.contracts import Parts
    from sextant.saved_model import SavedModel

MODEL = "writer"
SCRIPT = "results/writer.py"
CELLS = ("lstm", "gru", "rnn")
SEEDS = (42, 43, 44)
MOST_LINES = 2  # between the first line of a scene and the last
CHARACTERS = 100_000  # of the scenes
ROWS = 75  # of Shakespeare
SMALL = ("budget=smoke", "model.net.hidden_size=128")
RATES = (0.003, 0.01, 0.03)
ON_SCENES = (
    *("model.net.window=60", "model.schedule.max_epochs=16", "model.schedule.patience=16"),
)
ON_PLAYS = ("model.schedule.max_epochs=4",)
SHARES = {"train": 0.84, "val": 0.03, "gate": 0.03, "test": 0.1}
PAGE = Path(__file__).with_suffix(".md")


Values: TypeAlias = dict[int, float]  # by the lines in between, or by place


def main(argv: list[str]) -> None:
    """Train each cell on both texts with each seed, and write the page."""
    refuse_arguments(argv, SCRIPT)
    data = config.dataset(config.model(MODEL, shelf=True).dataset, ["source=mirror"], shelf=True)
    facts: dict[str, list[Values]] = {}
    places: dict[str, list[Values]] = {}
    rates: dict[str, list[float]] = {}
    written = scene_parts(data)
    plays = plays_parts(data)
    for cell in progress(CELLS, SCRIPT, "cells"):
        on_scenes = best_of_rates(cell, ON_SCENES, data, written)
        on_plays = best_of_rates(cell, ON_PLAYS, data, plays)
        rates[cell] = [on_scenes.rate, on_plays.rate]
        for model in on_scenes.models:
            values = recall(model.answer(written["test"]), written["test"])
            facts.setdefault(cell, []).append(values)
        for model in on_plays.models:
            places.setdefault(cell, []).append(from_empty_state(model, plays["gate"]))
    fit = plugins.task("writing").baselines("text")["kneser_ney"]
    n_grams = model.fit_baseline(fit, written)
    facts["kneser_ney"] = [recall(n_grams(written["test"]), written["test"])]
    publish(page(facts, places, rates), PAGE)


class Trained(NamedTuple):
    """The models of a cell, one for each seed, and their learning rate."""

    rate: float
    models: "list[SavedModel]"


def best_of_rates(
    cell: str, overrides: Sequence[str], data: config.DatasetConf, parts: "Parts"
) -> Trained:
    """The models of a cell at the learning rate that is best on val with the first seed."""
    firsts = {}
    for rate in RATES:
        firsts[rate] = trained(conf_of(cell, SEEDS[0], rate, overrides), data, parts)
    best = min(RATES, key=lambda rate: firsts[rate].card["val"]["nats"])
    models = [firsts[best]]
    for seed in SEEDS[1:]:
        models.append(trained(conf_of(cell, seed, best, overrides), data, parts))
    return Trained(best, models)


def conf_of(cell: str, seed: int, rate: float, overrides: Sequence[str]) -> config.ModelConf:
    """The conf of a small net with a cell and a learning rate."""
    of_cell = [f"seed={seed}", *SMALL, f"model.net.cell={cell}", f"model.optimizer.lr={rate}"]
    return config.model(MODEL, [*of_cell, *overrides], shelf=True)


def plays_parts(data: config.DatasetConf) -> "Parts":
    """The first ROWS rows of the plays, and what SHARES call val and gate."""
    parts = consecutive("".join(read_rows(data)[TEXT]), data.columns.chunk)
    return {**parts, "train": parts["train"].head(ROWS)}


def scene_parts(data: config.DatasetConf) -> "Parts":
    """Scenes with up to MOST_LINES lines."""
    twin = cast(Twin, config.twin(data))
    twin = twin.model_copy(update={"characters": CHARACTERS, "most": MOST_LINES})
    return consecutive(scenes(twin), data.columns.chunk)


def consecutive(text: str, chunk: int) -> "Parts":
    """The SHARES of a text, in their order, in rows."""
    parts = {}
    begin = 0
    share = 0.0
    for part, of_part in SHARES.items():
        share += of_part
        end = int(len(text) * share + 1e-6)
        parts[part] = chunks_of([("text", begin, text[begin:end])], chunk)
        begin = end
    return parts


# --- what is measured ---------------------------------------------------------------------------


def recall(answers: pd.DataFrame, rows: pd.DataFrame) -> Values:
    """The mean nats at the first letter of the name that is recalled, by the lines in between."""
    text = "".join(rows[TEXT])
    nats = np.concatenate(list(answers["nats"]))
    by_lines: dict[int, list[float]] = {}
    for place in recalls(text):
        start = text.rfind("Enter ", 0, place)
        if start >= 0:  # a part may begin within a scene
            lines = text.count("\n", start, place) - 1
            by_lines.setdefault(lines, []).append(float(nats[place]))
    return {lines: float(np.mean(values)) for lines, values in sorted(by_lines.items())}


def from_empty_state(model: "SavedModel", rows: pd.DataFrame) -> Values:
    """The mean nats by place in a row, which begins with an empty state."""
    outputs = saved_model.outputs(model.net, model.encoder.encode(rows))
    places = by_place(outputs["nats"].double().numpy(), rows[TEXT].str.len().to_numpy())
    return dict(zip(places.first.tolist(), places.nats.tolist(), strict=True))


# --- the page -----------------------------------------------------------------------------------


def page(
    facts: dict[str, list[Values]],
    places: dict[str, list[Values]],
    rates: dict[str, list[float]],
) -> str:
    """The content of results/writer.md; `rates` are a cell's on both texts."""
    lines = [
        "## The planted fact: nats at the first letter of the name",
        "",
        *table("lines between", facts),
        "",
        "## Shakespeare: nats by place in a row, from an empty state",
        "",
        *table("place", places),
    ]
    chosen = [f"`{cell}` {' and '.join(map(str, of_cell))}" for cell, of_cell in rates.items()]
    sentence = (
        "Mean ± standard deviation over the seeds. A place is the first of a range that ends before"
        " the next one. Kneser-Ney is the baseline of the task, whose order val chooses. Learning"
        f" rates, on the scenes and on Shakespeare, of {', '.join(map(str, RATES))}:"
        f" {', '.join(chosen)}."
    )
    return as_page("Memory of three cells", __doc__, lines, [sentence])


def table(heading: str, columns: dict[str, list[Values]]) -> list[str]:
    """A line for each key of the values, with a column for each method."""
    lines = [f"| {heading} | {' | '.join(columns)} |", "|---" * (1 + len(columns)) + "|"]
    for key in next(iter(columns.values()))[0]:
        cells = []
        for runs in columns.values():
            values = [run_values[key] for run_values in runs]
            cells.append(cell_of(values, 3) if len(values) > 1 else f"{values[0]:.3f}")
        lines.append(f"| {key:,} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    run(main)
