"""From new data to a judged model in one command: pin, repro, register, push, summary.

    .venv/bin/python -m sextant retrain [branch=retrain/2026-11-29]

`make retrain` does the same, but make turns every exit code other than 0 into 2.

Exit codes: 0 a model was promoted, 13 a version waits for a person, 11 nothing was promoted, 10
nothing new, 12 bad data, 1 failure, 2 wrong usage. A failure before the registry is reached leaves
everything as it was. DVC pushes only if a remote is set.

With `branch` the pins are committed to a new branch before the training and the outputs after it.
With codes 0 and 13, and where `dvc push` fails, the branch is there to be merged; otherwise there
is nothing to merge, and the checkout is as before.

The summary is Markdown, on standard output or appended to the file that GITHUB_STEP_SUMMARY names.
`code`, `outcome`, `merge` and `branch` are appended to the file that GITHUB_OUTPUT names. A message
goes to NOTIFY_URL unless there is nothing new. Everything else goes to standard error.
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

from .. import check, config, files, notification, paths, scoreboard, site_cache
from ..errors import DataError, SextantError, UsageError, one_line
from ..tracking import provenance, registry, store
from . import doctor, pin, repro
from .night import Night, begin

OUTCOMES = {
    0: "promoted",
    10: "nothing new",
    11: "not promoted",
    12: "bad data",
    13: "needs a person",
    2: "wrong question",
}
DATA_STAGES = ("pull", "validate", "prepare")
LOCK = Path("dvc.lock")
RUNNING = Path(".dvc/tmp/sextant-retrain")
# The codes with which a branch stays. 1 is returned where the push to the remote failed, when the
# registry may have a champion of a commit of this branch already.
TO_MERGE = (0, 1, 13)
# Outputs with `cache: false` in dvc.yaml: DVC has no copy of them, so that it cannot restore them.
UNCACHED = (
    *("reports/validation/*.json", "reports/metrics/*.json", "reports/registry/*.json"),
    "reports/processors/*.json",  # no output of a stage
)
NOTHING_NEW = "All sources are as pinned, no stage has to run, and every model has its decision."

Confs = Mapping[str, config.DatasetConf]  # by data set


@dataclass(frozen=True)
class Snapshot:
    """The state that is compared before and after a retraining."""

    metrics: Mapping[str, scoreboard.Metrics]  # by model, where reports/metrics/ has them
    rows: Mapping[str, int]  # by data set, where reports/validation/ has it
    judged: Mapping[str, frozenset[str]]  # by model: its versions with a decision
    champions: Mapping[str, str | None]  # by model: a version
    waiting: Mapping[str, str | None]  # by model: the version that waits for a person


def retrain(branch: str | None = None) -> tuple[int, str, str]:
    """Return the exit code, the summary, and the branch to merge, which may be "".

    Raises UsageError, DataError or SextantError if it fails before the registry is reached.
    """
    alone = files.locked(RUNNING, "retraining in this clone already; wait for its end, or stop it")
    with alone:
        with repro.alone():
            pass  # a running pipeline would be taken for a failure of this one
        if branch is None:
            return *_retrain(None), ""
        night = begin(branch)
        try:
            code, text = _retrain(night)
        except BaseException:  # also Ctrl-C
            night.leave()
            raise
        if code in TO_MERGE:
            subject = f"Retrain: {OUTCOMES.get(code, 'failure')}"
            night.commit_outputs(subject, text)
            return code, text, night.branch
        night.leave()
        _run([sys.executable, "-m", "dvc", "checkout", "--force", "--quiet"], must_succeed=False)
        return code, text, ""


def _retrain(night: Night | None) -> tuple[int, str]:
    chosen = config.params()
    confs = {name: config.dataset(name) for name in chosen.datasets}
    real = [conf for conf in confs.values() if conf.chosen_source != "embedded"]
    if not real:
        raise UsageError(
            "every data set is a twin, and twins do not change; in"
            f" {paths.PARAMS} change the line `source: embedded` to `source: mirror` (with"
            " SEXTANT_MIRROR in the environment) or `source: canonical`"
        )
    site_cache.keep_private()
    remote = doctor.default_remote()
    trained = all(paths.tracked(model).model.is_dir() for model in chosen.models)
    if remote and LOCK.is_file() and not trained:
        _dvc("pull", "--allow-missing")  # a fresh clone, as in CI: the outputs are in the remote
    with restored_on_failure(chosen.datasets):
        changes: list[pin.Change] = []
        for conf in real:
            changes += pin.pin(conf)
        check.check_all(shelf=False)  # after pinning, since it refuses a conf without pins
        if not changes and _is_settled(chosen, confs):
            return 10, f"{NOTHING_NEW}\n"
        before = _snapshot(chosen, confs)
        if night:
            night.commit_pins([str(change) for change in changes])
        # All data sets first, so that bad data are refused before hours of training.
        _sextant("repro", *DATA_STAGES)
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
            failure = f"The registry is up to date, but `dvc push` failed: {one_line(error)}"
            return 1, f"{text}\n{failure}\n"
    return code, text


def verdict(before: Snapshot, after: Snapshot) -> int:
    """Return 13 if a new version waits for a person, 0 if a champion changed, 11 if the registry
    judged a new version, else 10.
    """
    for model, version in after.waiting.items():
        if version and version != before.waiting[model]:
            return 13
    if after.champions != before.champions:
        return 0
    for model, versions in after.judged.items():
        if versions - before.judged[model]:
            return 11
    return 10


# --- restore after a failure --------------------------------------------------------------------


@contextmanager
def restored_on_failure(datasets: Iterable[str]) -> Iterator[None]:
    """Restore pins, dvc.lock and outputs if the block fails.

    Checkpoints stay, so that the next run resumes the training.
    """
    confs = [paths.dataset_conf(name) for name in datasets]
    kept: dict[Path, bytes] = {}
    for path in (*confs, LOCK, *_uncached_outputs()):
        if path.is_file():
            kept[path] = path.read_bytes()
    try:
        yield
    except BaseException:  # also Ctrl-C
        _restore(kept)
        raise


def _uncached_outputs() -> list[Path]:
    outputs: list[Path] = []
    for pattern in UNCACHED:
        outputs += sorted(Path().glob(pattern))
    return outputs


def _restore(kept: Mapping[Path, bytes]) -> None:
    """Write the kept contents back, remove files that did not exist, and check out the outputs."""
    for path in (LOCK, *_uncached_outputs()):
        if path not in kept:
            path.unlink(missing_ok=True)
    for path, content in kept.items():
        if not path.is_file() or path.read_bytes() != content:
            with files.written_whole(path) as beside:
                beside.write_bytes(content)
    if LOCK in kept:
        checkout = [sys.executable, "-m", "dvc", "checkout", "--force", "--quiet"]
        _run(checkout, must_succeed=False)


# --- the state of pipeline and registry ---------------------------------------------------------


def _is_settled(chosen: config.Params, confs: Confs) -> bool:
    """Return whether DVC has no stage to run and every model is trained and judged."""
    for model, line in chosen.models.items():
        if not _is_judged(model, confs[line.dataset].chosen_source):
            return False
    return _is_up_to_date()


def _is_up_to_date() -> bool:
    """Return whether `dvc status` reports no stage to run."""
    status = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        env=_environment(),
        capture_output=True,
        text=True,
    )
    return status.returncode == 0 and json.loads(status.stdout or "{}") == {}


def _is_judged(model: str, source: str) -> bool:
    """Return whether the registry has a decision on the model as it is in models/."""
    folder = paths.tracked(model).model
    if not folder.is_dir():
        return False
    name = registry.registered_name(model, source)
    digest = files.folder_digest(folder)
    if store.database():
        return registry.is_judged_here(name, digest)
    for version in registry.versions(store.client(), name):
        if version.decision and version.tags.get("digest") == digest:
            return True
    return False


def _snapshot(chosen: config.Params, confs: Confs) -> Snapshot:
    """Read the present state from reports/ and the registry."""
    rows: dict[str, int] = {}
    for name in confs:
        report = paths.validation(name)
        if report.is_file():
            rows[name] = files.read_json(report)["rows"]
    metrics: dict[str, scoreboard.Metrics] = {}
    judged: dict[str, frozenset[str]] = {}
    champions: dict[str, str | None] = {}
    waiting: dict[str, str | None] = {}
    for model, line in chosen.models.items():
        report = paths.tracked(model).metrics
        if report.is_file():
            metrics[model] = files.read_json(report)
        versions = _versions(model, confs[line.dataset].chosen_source)
        judged[model] = frozenset(version.version for version in versions if version.decision)
        champions[model] = None
        waiting[model] = None
        for version in versions:
            if version.champion:
                champions[model] = version.version
            if version.challenger:
                waiting[model] = version.version
    return Snapshot(metrics, rows, judged, champions, waiting)


def _versions(model: str, source: str) -> list[registry.Version]:
    """Return the registered versions of a model; none before the first registration."""
    database = store.database()
    if database and not database.is_file():  # `store.client` would create it
        return []
    return registry.versions(store.client(), registry.registered_name(model, source))


# --- commands -----------------------------------------------------------------------------------


def _dvc(*arguments: str) -> None:
    _run([sys.executable, "-m", "dvc", *arguments])


def _sextant(*arguments: str) -> None:
    _run([sys.executable, "-m", "sextant", *arguments])


def _run(command: Sequence[str], must_succeed: bool = True) -> None:
    """Run a command and copy its output to standard error.

    If it fails and `must_succeed`, raises DataError if a stage refused the data, else
    SextantError.
    """
    output: list[str] = []
    with subprocess.Popen(
        command,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            sys.stderr.write(line)
            output.append(line)
    if process.returncode == 0 or not must_succeed:
        return
    readable = " ".join(["python", *command[1:]])
    reason = refusal(output)
    # DVC ends with a code of its own and prints the one of the stage.
    refused = re.search(rf"exited with {DataError.code}\b", "".join(output))
    if process.returncode == DataError.code or refused:
        raise DataError(
            f"the new data were refused, and everything is as before: {reason or readable}"
        )
    raise SextantError(
        f"`{readable}` ended with {process.returncode}: {reason or 'see the lines above'}"
    )


def refusal(output: Iterable[str]) -> str:
    """Return the last message of a stage, "" if there is none.

    The advice to restore outputs is cut off, since they are restored here.
    """
    message = ""
    for line in output:
        # A stage's name comes first where several stages run at the same time.
        match = re.match(r"(?:\S+ \| )?sextant: (.*)", line)
        if match:
            message = match[1].strip()
    return re.split("; `(?:git checkout dvc.lock && )?dvc checkout`", message)[0]


def _environment() -> dict[str, str]:
    """Return an environment in which DVC's `python` is this one, with the code of this folder."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return {
        **os.environ,
        "PATH": path,
        "PYTHONPATH": "src",
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
    }


# --- the summary --------------------------------------------------------------------------------


def summary(
    chosen: config.Params,
    confs: Confs,
    changes: Sequence[pin.Change],
    before: Snapshot,
    after: Snapshot,
) -> str:
    """Return the new data, the metrics before and after, the decisions and the leaderboard.

    It is Markdown.
    """
    data = []
    for name, conf in confs.items():
        changed = [str(change) for change in changes if change.dataset == name]
        rows = _rows_before_and_after(name, before, after)
        data.append((name, conf.chosen_source, rows, "<br>".join(changed) or "as pinned"))
    decisions = scoreboard.read_decisions(chosen.models)
    scores = [_scores(model, before, after, decisions.get(model)) for model in chosen.models]
    leaderboard = scoreboard.rows(scoreboard.read_metrics(chosen.models), decisions)
    score_headings = ("model", "metric (test)", "before", "after", "decision", "reason")
    parts = [
        "## New data\n",
        _table(("data set", "source", "rows", "files"), data),
        "## Models\n",
        _table(score_headings, scores),
        "## Leaderboard\n",
        scoreboard.as_markdown(leaderboard),
    ]
    return "\n".join(parts)


def _rows_before_and_after(dataset: str, before: Snapshot, after: Snapshot) -> str:
    """Return `1,000 -> 1,200`, or one number if it did not change."""
    counts: list[str] = []
    for snapshot in (before, after):
        if dataset in snapshot.rows:
            counts.append(f"{snapshot.rows[dataset]:,}")
    return " -> ".join(dict.fromkeys(counts))


def _scores(
    model: str, before: Snapshot, after: Snapshot, decision: scoreboard.Decision | None
) -> tuple[str, ...]:
    """Return the cells of a model: name, metric, score before and after, decision, reason."""
    new = after.metrics[model]
    old = before.metrics.get(model)
    metric = new["metric"]
    old_score = "first training"  # also after a change from the twin to real data
    if old and old["source"] == new["source"]:
        old_score = f"{old['test'][metric]:.4f}"
    reason = str(decision["reason"]) if decision else ""
    new_score = f"{new['test'][metric]:.4f}"
    return model, metric, old_score, new_score, scoreboard.describe(decision), reason


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    text = ""
    for row in (headings, ["---"] * len(headings), *rows):
        cells = [cell.replace("|", "\\|") for cell in row]
        text += f"| {' | '.join(cells)} |\n"
    return text


def _publish(code: int, text: str, branch: str = "") -> None:
    """Write code and summary to the files of GitHub Actions, or the summary to standard output.

    A message goes to NOTIFY_URL, unless there is nothing new.
    """
    outcome = OUTCOMES.get(code, "failure")
    page = f"# Retraining: {outcome}\n\n{text}"
    summary_file = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary_file:
        _append(summary_file, page)
    else:
        print(page, end="", flush=True)
    output_file = os.environ.get("GITHUB_OUTPUT")
    if output_file:
        merge = str(bool(branch)).lower()
        _append(output_file, f"code={code}\noutcome={outcome}\nmerge={merge}\nbranch={branch}\n")
    if code != 10:
        notification.send(outcome, code, page, links(branch))


def links(branch: str) -> dict[str, str]:
    """The addresses of the CI job, of the branch and of the registry, as far as there are any."""
    repository = "/".join(
        os.environ.get(name, "") for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY")
    )
    addresses = {"job": provenance.ci_job(), "registry": store.address()}
    if branch and repository.strip("/"):
        base = os.environ.get("GITHUB_REF_NAME", "main")
        addresses["merge"] = f"{repository}/compare/{base}...{branch}"
    return {label: link for label, link in addresses.items() if link.startswith("http")}


def _append(path: str, text: str) -> None:
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(text)


def main(argv: list[str]) -> int:
    """`sextant retrain [branch=<name>]`: params.yaml lists what to retrain."""
    options, rest = config.named_options(argv, "branch")
    if rest:
        raise UsageError(
            f"`{' '.join(rest)}` is not understood; {paths.PARAMS} lists what to retrain"
        )
    try:
        code, text, branch = retrain(options.get("branch"))
    except Exception as error:
        failure = error.code if isinstance(error, SextantError) else 1
        _publish(failure, f"{one_line(error)}\n")
        raise
    _publish(code, text, branch)
    return code
