"""From new data to a judged model in one command: pin, repro, register, push where a remote is set, and a summary.

    .venv/bin/python -m sextant.retrain       (or `make retrain`; make turns every code but 0 into 2)

ends with 0 when a model was promoted, 10 when there is nothing new, 11 when nothing was promoted, 12 for bad data,
1 for a failure, 2 for a wrong question. What fails before the registry is asked leaves everything as it was. The
summary is Markdown, on standard output or appended to the file that GITHUB_STEP_SUMMARY names; `code` and `outcome`
are appended to the file that GITHUB_OUTPUT names. All other lines go to standard error.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import config, files, paths, scoreboard
from ..errors import DataError, SextantError, UsageError, one_line
from ..tracking import registry, store
from . import doctor, pin

OUTCOMES = {
    0: "promoted",
    10: "nothing new",
    11: "not promoted",
    12: "bad data",
    2: "wrong question",
}
DATA_STAGES = ("pull", "validate", "prepare")
LOCK = Path("dvc.lock")
SMALL = (
    "reports/validation/*.json",
    "reports/metrics/*.json",
    "reports/registry/*.json",
)  # outputs that DVC keeps no copy of
NOTHING = (
    "Every source holds what is pinned, no stage is left to run, and every model has its decision."
)


@dataclass(frozen=True)
class Snapshot:
    """What is compared before and after."""

    metrics: Mapping[str, Mapping[str, Any]]  # by model: reports/metrics/<model>.json
    rows: Mapping[str, int]  # by data set
    judged: Mapping[str, frozenset[str]]  # by model: the versions that have a decision
    champions: Mapping[str, str | None]  # by model: a version


def retrain() -> tuple[int, str]:
    """The exit code and the summary; raises UsageError, DataError or SextantError where it ends before the registry."""
    chosen = config.params()
    confs = {name: config.dataset(name) for name in chosen.datasets}
    real = [conf for conf in confs.values() if conf.chosen_source != "embedded"]
    if not real:
        raise UsageError(
            f"every data set is a twin, which never has anything new; in {paths.PARAMS} change the line"
            " `source: embedded` to `source: mirror` (with SEXTANT_MIRROR in the environment) or `source: canonical`"
        )
    remote = doctor.default_remote()
    if (
        remote
        and LOCK.is_file()
        and not all(Path("models", model).is_dir() for model in chosen.models)
    ):
        _dvc("pull", "--allow-missing")
    with unharmed(chosen.datasets):
        changes = [change for conf in real for change in pin.pin(conf)]
        config.check_all()  # after pinning, for a conf without pins is at fault
        if not changes and _settled(chosen, confs):
            return 10, f"{NOTHING}\n"
        before = _snapshot(chosen, confs)
        _sextant("repro", *DATA_STAGES)  # of all data sets, before the first hour of training
        _sextant("repro", "evaluate")
    _sextant("repro")
    _sextant("register", "--write")
    after = _snapshot(chosen, confs)
    code = verdict(before, after)
    text = summary(chosen, confs, changes, before, after)
    if remote:
        try:
            _dvc("push")
        except SextantError as error:
            return (
                1,
                f"{text}\nThe registry is up to date, but `dvc push` failed: {one_line(error)}\n",
            )
    return code, text


def verdict(before: Snapshot, after: Snapshot) -> int:
    """0 when a champion has changed, 11 when the registry judged something new, 10 when it knew everything already."""
    if any(after.champions[model] != before.champions[model] for model in after.champions):
        return 0
    return 11 if any(after.judged[model] - before.judged[model] for model in after.judged) else 10


# --- all as it was ----------------------------------------------------------------------------------------------------


@contextmanager
def unharmed(datasets: Iterable[str]) -> Iterator[None]:
    """When the block fails, put pins, dvc.lock and outputs back; checkpoints stay, for the next run to go on from."""
    confs = [paths.CONF / "dataset" / f"{name}.yaml" for name in datasets]
    kept = {path: path.read_bytes() for path in (*confs, LOCK, *_small()) if path.is_file()}
    try:
        yield
    except BaseException:
        _restore(kept)
        raise


def _small() -> list[Path]:
    return [path for pattern in SMALL for path in sorted(Path().glob(pattern))]


def _restore(kept: Mapping[Path, bytes]) -> None:
    for path in (LOCK, *_small()):
        if path not in kept:
            path.unlink(missing_ok=True)
    for path, content in kept.items():
        if not path.is_file() or path.read_bytes() != content:
            with files.written_whole(path) as beside:
                beside.write_bytes(content)
    if LOCK in kept:
        _run([sys.executable, "-m", "dvc", "checkout", "--force", "--quiet"], must=False)


# --- what is there ----------------------------------------------------------------------------------------------------


def _settled(chosen: config.Params, confs: Mapping[str, config.DatasetConf]) -> bool:
    """DVC has nothing to run and every model is judged; what was never trained is not settled."""
    judged = all(
        _judged(model, confs[line.dataset].chosen_source) for model, line in chosen.models.items()
    )
    return judged and _clean()


def _clean() -> bool:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        env=_environment(),
        capture_output=True,
        text=True,
    )
    return done.returncode == 0 and json.loads(done.stdout or "{}") == {}


def _judged(model: str, source: str) -> bool:
    if not Path("models", model).is_dir():
        return False
    name, digest = (
        registry.registered_name(model, source),
        files.folder_digest(Path("models", model)),
    )
    if store.database():
        return registry.is_judged_here(name, digest)
    return any(
        v.decision and v.tags.get("digest") == digest
        for v in registry.versions(store.client(), name)
    )


def _snapshot(chosen: config.Params, confs: Mapping[str, config.DatasetConf]) -> Snapshot:
    database = store.database()
    mlflow = store.client() if database is None or database.is_file() else None
    versions = {
        model: registry.versions(
            mlflow, registry.registered_name(model, confs[line.dataset].chosen_source)
        )
        if mlflow
        else []
        for model, line in chosen.models.items()
    }
    validated = {name: _json(Path("reports/validation", f"{name}.json")) for name in confs}
    return Snapshot(
        metrics={
            model: found
            for model in chosen.models
            if (found := _json(Path("reports/metrics", f"{model}.json")))
        },
        rows={name: found["rows"] for name, found in validated.items() if found},
        judged={
            model: frozenset(v.version for v in found if v.decision)
            for model, found in versions.items()
        },
        champions={
            model: next((v.version for v in found if v.champion), None)
            for model, found in versions.items()
        },
    )


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


# --- commands ---------------------------------------------------------------------------------------------------------


def _dvc(*words: str) -> None:
    _run([sys.executable, "-m", "dvc", *words])


def _sextant(module: str, *words: str) -> None:
    _run([sys.executable, "-m", "sextant", module, *words])


def _run(words: Sequence[str], must: bool = True) -> None:
    """Run a command, its lines on standard error; raises DataError where a stage refused the data, or SextantError."""
    command = " ".join(["python", *words[1:]])
    said: list[str] = []
    with subprocess.Popen(
        words,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stderr.write(line)
            said.append(line)
    if process.returncode == 0 or not must:
        return
    reason = refusal(said)
    if process.returncode == DataError.code or re.search(
        rf"exited with {DataError.code}\b", "".join(said)
    ):
        raise DataError(
            f"the new data were refused, and everything is as before: {reason or command}"
        )
    raise SextantError(
        f"`{command}` ended with {process.returncode}: {reason or 'see the lines above'}"
    )


def refusal(said: Sequence[str]) -> str:
    """The one line of a stage that gave up, without the advice to restore what is restored here."""
    lines = [
        line.removeprefix("sextant: ").strip() for line in said if line.startswith("sextant: ")
    ]
    return re.split("; `(?:git checkout dvc.lock && )?dvc checkout`", lines[-1])[0] if lines else ""


def _environment() -> dict[str, str]:
    """DVC runs `python`, which must be this one, with the code of this folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": "src",
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
    }


# --- the summary ------------------------------------------------------------------------------------------------------


def summary(
    chosen: config.Params,
    confs: Mapping[str, config.DatasetConf],
    changes: Sequence[pin.Change],
    before: Snapshot,
    after: Snapshot,
) -> str:
    """What arrived, the metric before and after, the decisions: Markdown."""
    arrived = [
        (
            name,
            conf.chosen_source,
            *_arrived(name, [c for c in changes if c.dataset == name], before, after),
        )
        for name, conf in confs.items()
    ]
    decisions = scoreboard.read_decisions(chosen.models)
    scores = [_scores(model, before, after, decisions.get(model, {})) for model in chosen.models]
    return "\n".join(
        [
            "## What arrived\n",
            _table(("data set", "source", "rows", "files"), arrived),
            "## What became of it\n",
            _table(("model", "metric (test)", "before", "after", "decision", "reason"), scores),
            "## Leaderboard\n",
            scoreboard.as_markdown(
                scoreboard.rows(scoreboard.read_metrics(chosen.models), decisions)
            ),
        ]
    )


def _arrived(
    name: str, changes: Sequence[pin.Change], before: Snapshot, after: Snapshot
) -> tuple[str, str]:
    rows = [f"{found.rows[name]:,}" for found in (before, after) if name in found.rows]
    return " -> ".join(dict.fromkeys(rows)), "<br>".join(map(str, changes)) or "as pinned"


def _scores(
    model: str, before: Snapshot, after: Snapshot, decision: Mapping[str, Any]
) -> tuple[str, ...]:
    now, then = after.metrics[model], before.metrics.get(model)
    metric = now["metric"]
    old = (
        f"{then['test'][metric]:.4f}"
        if then and then["source"] == now["source"]
        else "first training"
    )
    word = (
        f"{decision.get('decision', 'none')}{scoreboard.CHAMPION * bool(decision.get('champion'))}"
    )
    return model, metric, old, f"{now['test'][metric]:.4f}", word, str(decision.get("reason", ""))


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def _tell(code: int, text: str) -> None:
    """Hand code and summary to whoever waits for them."""
    outcome = OUTCOMES.get(code, "failure")
    page = f"# Retraining: {outcome}\n\n{text}"
    if place := os.environ.get("GITHUB_STEP_SUMMARY"):
        _append(place, page)
    else:
        print(page, end="", flush=True)
    if place := os.environ.get("GITHUB_OUTPUT"):
        _append(place, f"code={code}\noutcome={outcome}\n")


def _append(place: str, text: str) -> None:
    with open(place, "a", encoding="utf-8") as stream:
        stream.write(text)


def main(argv: list[str]) -> int:
    """`sextant retrain`, without arguments: what to retrain stands in params.yaml."""
    if argv:
        raise UsageError(
            f"`{' '.join(argv)}` is not understood; what to retrain stands in {paths.PARAMS}"
        )
    try:
        code, text = retrain()
    except Exception as error:
        _tell(error.code if isinstance(error, SextantError) else 1, f"{one_line(error)}\n")
        raise
    _tell(code, text)
    return code
