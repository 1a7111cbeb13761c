"""The figures of the map on the real credit card applications, by the model of conf/model/som.yaml.

    SEXTANT_MIRROR=/absolute/folder/of/data PYTHONPATH=src python results/som.py

690 rows, 14 features scaled by their range in the training rows, codes as numbers. Five splits by hash (salts 0 to 4):
70 % train, 10 % val (which epoch is kept, which row is an outlier), 20 % held out, scored once. Sigma and the number of
epochs were chosen on val. Writes results/som.md: mean and standard deviation over the five splits.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from sextant import config, files, plugins, pull, train
from sextant.errors import UsageError, run
from sextant.kinds.splits import Shares
from sextant.terminal import progress

SALTS = range(5)
SHARES = {
    "train": 0.7,
    "val": 0.1,
    "gate": 0.0,
    "test": 0.2,
}  # nothing is registered here, so no gate part
AUROC = "outlier_auroc"
PAGE = Path(__file__).with_suffix(".md")
OVERRIDES = ["source=mirror", "budget=standard"]


def rows(conf: config.DatasetConf) -> Any:
    """The real rows, as the pipeline brings and repairs them."""
    kind = plugins.kind(conf.kind).rows
    with tempfile.TemporaryDirectory() as place:
        pull.pull(conf, Path(place) / "raw")
        return kind.repair(kind.read(Path(place) / "raw", conf.columns), conf.columns)


def scored(
    conf: config.ModelConf, data: config.DatasetConf, raw: Any, salt: int
) -> dict[tuple[str, str], dict]:
    """The scores of the map and its baselines on the training and the held out rows of one split."""
    kind = plugins.kind(data.kind).rows
    split = data.split.model_copy(update={"salt": salt, "shares": Shares(**SHARES)})
    parts = kind.split(raw, data.columns, split)
    profile = {
        "kind": data.kind,
        "source": data.chosen_source,
        "digest": "",
        "layout": data.columns.model_dump(),
    }
    with tempfile.TemporaryDirectory() as folder:
        model, _ = train.learn(conf, parts, profile, Path(folder), lambda row: None)
    answers = {"som": model.answer}
    for name, fit in plugins.task(conf.task).baselines(conf.kind).items():
        answers[name] = plugins.call(
            fit, parts["train"], data.columns, encoder=model.encoder, net=conf.net
        )
    found: dict[tuple[str, str], dict] = {}
    for part, said in (("train", "training rows"), ("test", "held out")):
        asked = model.inputs(parts[part])
        found |= {
            (name, said): model.score(answer(asked), parts[part])
            for name, answer in answers.items()
        }
    return found


def paired(apart: list[float], ratio: float) -> tuple[float, float]:
    """The 95 % interval of a mean difference over repeated splits; `ratio` is that of test to training rows.

    The splits share rows, so that the variance of their mean is more than a share of their own.
    """
    from scipy.stats import t

    half = t.ppf(0.975, len(apart) - 1) * np.std(apart, ddof=1) * (1 / len(apart) + ratio) ** 0.5
    return float(np.mean(apart) - half), float(np.mean(apart) + half)


def page(conf: config.ModelConf, each: list[dict[tuple[str, str], dict]]) -> str:
    """The table, as Markdown."""
    metrics = list(plugins.task(conf.task).metrics.METRICS)
    lines = [
        "# The map of the credit card applications",
        "",
        (__doc__ or "").split("\n\n", 1)[1].strip("\n"),
        "",
        f"| answered by | rows | {' | '.join(metrics)} |",
        "|---|---|" + "---|" * len(metrics),
    ]
    for name, part in each[0]:
        cells = []
        for metric in metrics:
            values = [found[name, part][metric] for found in each if metric in found[name, part]]
            # A training row is its own nearest neighbour, so that outliers are a question to held out rows.
            known = values and (metric != AUROC or part == "held out")
            cells.append(f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" if known else "–")
        if set(cells) != {"–"}:
            lines.append(f"| {name} | {part} | {' | '.join(cells)} |")
    apart = [
        found["som", "held out"][AUROC] - found["knn_distance", "held out"][AUROC] for found in each
    ]
    low, high = paired(apart, SHARES["test"] / SHARES["train"])
    lines += [
        "",
        f"{AUROC}, som less knn_distance on the same rows: {np.mean(apart):+.4f}, 95 % from {low:+.4f} to {high:+.4f}",
        "(Student-t over the splits, its variance corrected for the rows that they share: Nadeau and Bengio 2003).",
        "",
        "quantization_error: mean Euclidean distance to the best unit. topographic_error: share of rows whose second",
        "best unit is none of the eight around the best. outlier_auroc: rows against as many rows with each column",
        "permuted by itself, mean over 20 such injections; all are asked the same rows. knn_distance: to the nearest",
        "training row. Class is no feature, and is approval: there is no label of fraud to be right about.",
    ]
    return "\n".join(lines) + "\n"


def main(argv: list[str]) -> None:
    """Run the protocol and write the page."""
    if argv:
        raise UsageError(f"`{' '.join(argv)}` is not understood; the protocol takes no arguments")
    train.quieten()
    conf = config.model("som", OVERRIDES)
    data = config.dataset(conf.dataset, OVERRIDES)
    raw = rows(data)
    text = page(
        conf,
        [scored(conf, data, raw, salt) for salt in progress(SALTS, "results/som.py", "splits")],
    )
    with files.written_whole(PAGE) as beside:
        beside.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    run(main)
