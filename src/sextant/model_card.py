"""The model card, and the description of a registered model, in Markdown."""

from collections.abc import Iterable, Mapping

from .gate import Candidate


def about(candidate: Candidate) -> str:
    """The description of a registered model, which its MLflow page shows above the versions."""
    data = "its generated twin" if candidate.metrics["source"] == "embedded" else "real data"
    lines = [
        f"{_question(candidate.metrics)} ({data}).",
        "",
        "- The version with the alias `champion` answers"
        f" `make predict MODEL={candidate.name}`. The gate moves the alias; `make promote` and"
        " `make rollback` move it by hand.",
        "- Tags of a version: `decision`, the gate's decision with its reason; `gate.…`, the scores"
        " on the gate part, which only the gate scores; `digest` and `data`, the sha256 of the"
        " model's folder and of its raw data.",
        "- The tag `reigns`: the versions that were champion, in order.",
    ]
    return "\n".join(lines)


def card(candidate: Candidate) -> str:
    """The model card: the question, the data, the scores beside the baselines, and the limits."""
    metrics = candidate.metrics
    profile = candidate.profile
    data = "real data"
    if metrics["source"] == "embedded":
        data = "its generated twin, so these numbers say nothing about real data"
    rows = ", ".join(f"{part} {count:,}" for part, count in profile["rows"].items())
    lines = [
        f"{_question(metrics)} ({data}).",
        "",
        *_score_table(metrics),
        "",
        *[f"- {sentence}" for sentence in metrics.get("verdict", [])],
    ]
    if profile.get("about"):
        lines.append(f"- {profile['about']}")
    lines += [
        f"- rows: {rows}; data sha256 {profile['digest'][:12]}",
        f"- seed {metrics['seed']}, budget {metrics['budget']}; epoch {metrics['epochs']} was kept"
        " for its score on val",
        "- input: rows like those of `input_example.json`, among the artifacts of the source model",
        "- everything was chosen on train and val; the test part decided nothing, and only the gate"
        " scores the gate part",
        "- meant for rows like those it was trained on: the column `warnings` of an answer says"
        " what is unusual about its row",
    ]
    return "\n".join(lines)


def _question(metrics: Mapping[str, object]) -> str:
    family = str(metrics["family"]).upper()
    return f"{family} for {metrics['task']} on `{metrics['dataset']}`"


def _score_table(metrics: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    """The metrics of the test part, one line for the model and one for each baseline."""
    names = list(metrics["test"])
    lines = [_line("on the test part", names), "|---|" + "---|" * len(names)]
    for label, scores in {"this model": metrics["test"], **metrics["baselines"]}.items():
        cells = []
        for name in names:
            value = scores.get(name)
            cells.append("–" if value is None else f"{value:.4f}")
        lines.append(_line(label, cells))
    return lines


def _line(label: str, cells: Iterable[str]) -> str:
    """A line of a table; &emsp; because MLflow's pages put no space between columns."""
    return f"| {label} | " + " | ".join(f"&emsp;{cell}" for cell in cells) + " |"
