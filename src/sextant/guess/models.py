"""The conf of a model, with a budget that fits the size of the data."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from . import layout

FAMILIES = {  # by kind and task
    ("tabular", "classification"): "ann",
    ("tabular", "regression"): "ann",
    ("tabular", "mapping"): "som",
    ("images", "classification"): "cnn",
    ("clips", "classification"): "conv_lstm",
    ("clips", "frames"): "conv_lstm",
    ("series", "forecasting"): "rnn",
    ("ratings", "likes"): "rbm",
    ("ratings", "stars"): "sae",
    ("text", "writing"): "char_rnn",
}
MONITORS = {  # the metric on val that chooses the epoch, by task
    "classification": "log_loss",
    "regression": "pinball",
    "mapping": "quantization_error",
    "forecasting": "pinball",
    "frames": "mse",
    "likes": "auroc",
    "stars": "rmse",
    "writing": "nats",
}


# By family, the page that describes it, where that is not its name.
PAGES = {"conv_lstm": "film", "char_rnn": "writer"}


class Size(NamedTuple):
    """How large the data are: `train` rows (pictures, days, ratings) are trained on.

    side: of a picture, in pixels; of a row of text, in characters. photos: whether a mirrored
    picture has the same class. users: of ratings. level: of the target of a series, or its spread
    for a regression, in its unit.
    """

    train: int
    features: int = 0
    side: int = 0
    photos: bool = True
    grey: bool = False
    users: int = 0
    level: float = 0.0


def text(
    name: str,
    question: str,
    family: str,
    task: str,
    size: Size,
    metric: str | None = None,
    decide: Sequence[str] = (),
) -> str:
    """The content of conf/model/<name>.yaml.

    `metric` is what the gate reads, None: the first; `decide` are lines at the end of `schedule`.
    """
    if family not in BODIES:
        raise KeyError(family)
    gate = [
        f"  margin: {layout.scalar(margin(family, size))}",
        layout.line(2, "interval", "0.9", "of the gain, by a bootstrap: its lower end above 0"),
    ]
    if metric:
        gate.append(layout.line(2, "metric", metric, "one class is rare: accuracy hardly tells"))
    body = BODIES[family](task, size)
    end = [line.split(":")[0] for line in body].index("budgets")  # it follows on the schedule
    page = f"docs/{PAGES.get(family, family)}.md"
    lines = [
        layout.comment(question),
        f"# Written by `make new` for {size.train:,} rows of training; see {page}.",
        *body[:end],
        *decide,
        *body[end:],
        "gate:                 # what a version has to fulfil to become champion",
        *gate,
        layout.line(2, "guards", "[]", "further conditions on metrics, as in: log_loss <= 0.5"),
        layout.line(0, "baselines", "[]", "further baselines of the task"),
    ]
    return "\n".join(lines) + "\n"


def margin(family: str, size: Size) -> float:
    """By how much a challenger has to beat the champion, in units of the metric.

    A metric in the unit of the target scales with it: a hundred-thousandth of a price.
    """
    if family == "rnn" or (family == "ann" and size.level):
        return float(f"{max(size.level, 1e-9) * 1e-5:.0e}") if size.level else 0.0
    return {"som": 0.002, "cnn": 0.002}.get(family, 0.001)


# --- families -----------------------------------------------------------------------------------


def _schedule(
    epochs: int,
    batch: int,
    monitor: str,
    patience: int,
    lr: str = "cosine",
    warmup: float = 0.05,
    clip: float | None = 1.0,
    ema: float | None = None,
    threads: int = 1,
    precision: str = "float32",
) -> list[str]:
    return [
        "schedule:",
        f"  lr: {lr}",
        f"  warmup: {layout.scalar(warmup)}",
        layout.line(2, "max_epochs", str(epochs)),
        layout.line(2, "batch_size", str(batch)),
        layout.line(2, "monitor", monitor, "the metric on val that chooses the epoch"),
        layout.line(2, "patience", str(patience), "epochs without an improvement"),
        f"  clip: {'null' if clip is None else clip}",
        f"  ema: {layout.scalar(ema)}",
        f"  threads: {threads}",
        f"  precision: {precision}",
    ]


def _block(key: str, values: dict[str, object]) -> list[str]:
    lines = [f"{key}:"]
    for name, value in values.items():
        text_of = layout.flow(value) if isinstance(value, list) else layout.scalar(value)
        lines.append(f"  {name}: {text_of}")
    return lines


def _budgets(smoke: dict[str, dict[str, object]], full: dict[str, dict[str, object]]) -> list[str]:
    lines = ["budgets:              # what `budget` in params.yaml overrides"]
    for name, blocks in (("smoke", smoke), ("standard", {}), ("full", full)):
        if not blocks:
            lines.append(f"  {name}: {{}}")
            continue
        lines.append(f"  {name}:")
        for block, values in blocks.items():
            lines.append(f"    {block}: {layout.flow_map(values)}")
    return lines


def _ann(task: str, size: Size) -> list[str]:
    """Perceptrons on a table: more weights, larger batches and fewer epochs for more rows."""
    monitor = MONITORS[task]
    wide = size.features > 100  # every feature has an embedding
    net: dict[str, object] = {"bins": 16, "embedding_size": 4 if wide else 12}
    if size.train < 1500:
        net |= {"bins": 8, "embedding_size": 4 if wide else 8, "hidden_sizes": [32]}
        net |= {"dropout": 0.1, "bodies": 1, "members": 8}
        optimizer = {"name": "adamw", "lr": 0.005, "weight_decay": 0.01}
        schedule = _schedule(60, 32, monitor, 12)
        smoke: dict[str, object] = {"max_epochs": 20}
        small_net: dict[str, object] = {}
        full: dict[str, object] = {"max_epochs": 120, "patience": 24}
    else:
        epochs, batch = 40, 128
        if size.train > 30_000:
            epochs, batch = 20, 512
        if size.train > 300_000:
            epochs, batch = 8, 2048
        hidden = [128, 128] if size.train <= 100_000 else [256, 256]
        net |= {"hidden_sizes": hidden, "dropout": 0.2, "bodies": 2, "members": 16}
        optimizer = {"name": "adamw", "lr": 0.002, "weight_decay": 0.01}
        schedule = _schedule(epochs, batch, monitor, 8, ema=0.99)
        if task == "regression":
            # Tried on val of a plant's output (5,747 rows): pinball 0.730 instead of 0.764.
            net["dropout"] = 0.0
            optimizer["lr"] = 0.005
        smoke = {"max_epochs": 3}
        small_net = {"bodies": 1, "members": 4, "hidden_sizes": [32]}
        full = {"max_epochs": 2 * epochs, "patience": 16}
    smoke_blocks = {"net": small_net, "schedule": smoke} if small_net else {"schedule": smoke}
    return [
        *_block("net", net),
        *_block("optimizer", dict(optimizer)),
        *schedule,
        *_budgets(smoke_blocks, {"net": {"bodies": 4}, "schedule": full}),
    ]


def side_of_map(rows: int) -> int:
    """The side of a square map of 5 sqrt(rows) units, as Vesanto and Alhoniemi (2000) advise."""
    return max(4, min(30, round(math.sqrt(5 * math.sqrt(rows)))))


def _som(task: str, size: Size) -> list[str]:
    side = side_of_map(size.train)
    net = {
        "rows": side, "cols": side, "grid": "rectangular", "toroidal": False,
        "neighborhood": "gaussian", "sigma": side / 2, "sigma_end": 0.5, "init": "pca",
        "update": "batch",
    }  # fmt: skip
    optimizer = {"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}
    schedule = _schedule(100, 1_000_000, MONITORS[task], 100, lr="constant", warmup=0.0, clip=None)
    return [
        *_block("net", {**net, "sigma": float(net["sigma"])}),  # type: ignore[arg-type]
        *_block("optimizer", dict(optimizer)),
        *schedule,
        *_budgets(
            {"schedule": {"max_epochs": 10}}, {"schedule": {"max_epochs": 400, "patience": 400}}
        ),
    ]


def _cnn(task: str, size: Size) -> list[str]:
    """A residual net: fewer stages for small pictures, more epochs for few pictures."""
    widths: list[object] = [32, 64, 128, 256]
    stride = 2 if size.side >= 48 else 1
    while -(-size.side // stride) // 2 ** (len(widths) - 1) < 3:
        widths.pop()
    epochs, batch = 48, 128
    if size.train < 2000:
        epochs, batch = 80, 32
        widths = widths[:3]
    if size.train > 20_000:
        epochs = 16
    net = {
        "widths": widths, "stride": stride, "mirror": size.photos,
        "zoom": 1.67 if size.photos else 1.2, "rotation": 15 if size.photos else 10,
        "light": 0.2, "colour": 0.0 if size.grey else 0.1, "hole": 0.3 if size.photos else 0.0,
        "label_smoothing": 0.05 if size.photos else 0.0,
    }  # fmt: skip
    optimizer = {"name": "sgd", "lr": 0.12 if batch == 128 else 0.05, "momentum": 0.9}
    schedule = _schedule(
        epochs, batch, MONITORS[task], 6 if epochs < 80 else 20, lr="one_cycle", warmup=0.2,
        clip=None, ema=0.995 if size.train >= 2000 else 0.98, threads=2, precision="bfloat16",
    )  # fmt: skip
    return [
        *_block("net", dict(net)),
        *_block("optimizer", {**optimizer, "weight_decay": 0.0005}),
        *schedule,
        *_budgets(
            {
                "net": {"widths": widths[:3] if len(widths) < 3 else [16, 32, 64][: len(widths)]},
                "schedule": {"max_epochs": 8, "threads": 1},
            },
            {"schedule": {"max_epochs": 200 if epochs > 16 else 60, "patience": 50}},
        ),
    ]


def _rnn(task: str, size: Size) -> list[str]:
    net: dict[str, object] = {"hidden_size": 32, "layers": 2, "dropout": 0.1}
    optimizer = {"name": "adamw", "lr": 0.003, "weight_decay": 0.01}
    batch = 64 if size.train >= 500 else 32
    return [
        *_block("net", net),
        *_block("optimizer", dict(optimizer)),
        *_schedule(30, batch, MONITORS[task], 10, warmup=0.1),
        *_budgets(
            {"net": {"hidden_size": 16}, "schedule": {"max_epochs": 15}},
            {"net": {"hidden_size": 64}, "schedule": {"max_epochs": 60, "patience": 20}},
        ),
    ]


def decay(ratings: int) -> float:
    """The weight decay of nets on ratings, which falls with their number.

    Tried on val: 3 is best for the 100,000 ratings of MovieLens 100K, 0.5 for a million.
    """
    exponent = 0.78
    return float(f"{min(5.0, max(0.1, 3 * (1e5 / max(ratings, 1)) ** exponent)):.1g}")


def _rbm(task: str, size: Size) -> list[str]:
    units = "ordinal" if task == "stars" else "bernoulli"
    hidden = 300 if size.users >= 500 else 60
    net = {
        "units": units, "hidden": hidden, "chain": "cd", "k": 1, "clamped": 0.5,
        "conditional": True, "shrinkage": 30.0, "init": 0.05,
    }  # fmt: skip
    batch = 64 if size.users >= 500 else 16
    optimizer = {"name": "adamw", "lr": 0.005, "weight_decay": decay(size.train)}
    return [
        *_block("net", dict(net)),
        *_block("optimizer", dict(optimizer)),
        *_schedule(40, batch, MONITORS[task], 12, ema=0.99),
        *_budgets(
            {"net": {"hidden": min(50, hidden)}, "schedule": {"max_epochs": 6}},
            {"net": {"hidden": 500, "k": 3}, "schedule": {"max_epochs": 80, "patience": 20}},
        ),
    ]


def _sae(task: str, size: Size) -> list[str]:
    hidden: list[object] = [128, 128] if size.users >= 500 else [32, 32]
    net = {
        "mode": "user", "hidden_sizes": hidden, "activation": "tanh", "dropout": 0.4, "tied": True,
        "masks": True, "hide": [0.2, 0.8], "visible": 0.3, "refeed": 0.0, "shrinkage": 10.0,
    }  # fmt: skip
    batch = 32 if size.users >= 500 else 16
    optimizer = {"name": "adamw", "lr": 0.002, "weight_decay": decay(size.train)}
    return [
        *_block("net", dict(net)),
        *_block("optimizer", dict(optimizer)),
        *_schedule(40, batch, MONITORS[task], 12, ema=0.99),
        *_budgets(
            {"net": {"hidden_sizes": [32, 32]}, "schedule": {"max_epochs": 6}},
            {"net": {"hidden_sizes": [256, 256], "dropout": 0.6},
             "schedule": {"max_epochs": 80, "patience": 20}},
        ),
    ]  # fmt: skip


def _conv_lstm(task: str, size: Size) -> list[str]:
    """Larger squares for larger frames, and as many epochs as give some thousands of steps."""
    patch = 8 if size.side >= 48 else 4
    is_film = task == "frames"
    net: dict[str, object] = {
        "patch": patch, "hidden": [96, 96] if is_film else [48, 48], "kernel": 5, "reach": 4,
        "motions": 2, "seen_weight": 0.5,
    }  # fmt: skip
    batch = 8 if is_film else 16
    epochs = max(2, min(60, 2000 * batch // max(1, size.train)))
    optimizer = {"name": "adamw", "lr": 0.003, "weight_decay": 0.0001}
    schedule = _schedule(
        epochs, batch, MONITORS[task], epochs, lr="one_cycle", warmup=0.15,
        clip=100.0 if is_film else 1.0,
    )  # fmt: skip
    smoke: dict[str, dict[str, object]] = {
        "net": {"hidden": [16]},
        "schedule": {"max_epochs": 2},
    }
    full: dict[str, dict[str, object]] = {
        "schedule": {"max_epochs": 5 * epochs, "patience": 5 * epochs}
    }
    return [
        *_block("net", net),
        *_block("optimizer", dict(optimizer)),
        *schedule,
        *_budgets(smoke, full),
    ]


def _char_rnn(task: str, size: Size) -> list[str]:
    """An LSTM on text: more cells for a longer one, and some thousand steps."""
    characters = size.train * size.side
    hidden = 384 if characters >= 500_000 else 256 if characters >= 100_000 else 128
    a_step = 4000 if characters >= 100_000 else 1000
    batch = max(1, round(a_step / size.side))
    steps = max(1, size.train // batch)
    epochs = max(8, min(60, round(3000 / steps)))
    net = {
        "cell": "lstm", "hidden_size": hidden, "layers": 1, "embedding": 64, "dropout": 0.2,
        "tied": False, "window": min(80, size.side),
    }  # fmt: skip
    optimizer = {"name": "adamw", "lr": 0.004, "weight_decay": 0.01}
    smoke: dict[str, object] = {"max_epochs": max(2, epochs // 8)}
    full: dict[str, object] = {"max_epochs": 3 * epochs, "patience": 3 * epochs}
    return [
        *_block("net", dict(net)),
        *_block("optimizer", dict(optimizer)),
        *_schedule(epochs, batch, MONITORS[task], epochs, ema=0.99),
        *_budgets(
            {"net": {"hidden_size": 96}, "schedule": smoke},
            {"net": {"hidden_size": 2 * hidden, "dropout": 0.4}, "schedule": full},
        ),
    ]


BODIES = {
    "ann": _ann,
    "som": _som,
    "cnn": _cnn,
    "conv_lstm": _conv_lstm,
    "rnn": _rnn,
    "rbm": _rbm,
    "sae": _sae,
    "char_rnn": _char_rnn,
}
