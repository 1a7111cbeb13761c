"""The command line: `python -m sextant VERB key=value ...`, installed as `sextant`.

Modules are imported only when their verb runs, because importing torch or MLflow takes seconds.
"""

import importlib
import os
from collections.abc import Mapping

from . import processor
from .errors import UsageError, run

# By verb: its module, its arguments, and what it does.
STAGES = {
    "pull": ("pull", "dataset=churn", "fetch the raw files and check their size and sha256"),
    "validate": ("validate", "dataset=churn", "check the raw data against their expectations"),
    "prepare": ("prepare", "dataset=churn", "repair the rows and split them into four parts"),
    "train": ("train", "model=ann", "train, or resume an interrupted training"),
    "evaluate": ("evaluate", "model=ann", "metrics on the test part, beside the baselines"),
    "register": ("register", "[--write] [model=ann]", "let the gate decide what becomes champion"),
    "report": ("report", "", "write the page reports/index.html"),
}
COMMANDS = {
    "check": ("check", "[model=ann]", "check params.yaml, conf/shelf.yaml and every conf"),
    "repro": ("commands.repro", "[stage ...] [jobs=2]", "`dvc repro`, side by side"),
    "leaderboard": ("commands.leaderboard", "", "print one table of all models"),
    "tune": ("commands.tune", "model=ann [trials=40] [--write]", "search better settings on val"),
    "predict": ("commands.predict", "model=ann input=rows.csv", "answer rows with the champion"),
    "drift": ("commands.drift", "model=ann input=rows.csv", "compare rows with those of training"),
    "serve": ("commands.serve", "model=ann [workers=2]", "serve the champion over HTTP"),
    "ui": ("commands.ui", "[port=5000] [auth=1]", "open MLflow's pages"),
    "seeds": ("commands.seeds", "model=ann [seeds=5]", "train from several seeds, by hand"),
    "history": ("commands.history", "model=ann", "list every change of the champion, and why"),
    "promote": ("commands.promote", "model=ann [version=3]", "make a version champion by hand"),
    "rollback": ("commands.rollback", "model=ann [--freeze]", "return to the previous champion"),
    "new": (
        "commands.new",
        "file=loans.csv target=repaid",
        "write the confs of a data set and a model",
    ),
    "add": ("commands.add", "model=digits", "list a model of conf/shelf.yaml in params.yaml"),
    "remove": ("commands.remove", "model=digits", "take a model out of params.yaml"),
    "pin": ("commands.pin", "dataset=churn", "write the source's sizes and digests into the conf"),
    "retrain": ("commands.retrain", "[branch=night/1]", "pin, repro, register, push, summary"),
    "compare": ("commands.compare", "base=origin/main", "what a branch changes, as Markdown"),
    "merge-lock": (
        "commands.merge_lock",
        "[side=theirs]",
        "resolve a merge in dvc.lock, run it",
    ),
    "gc": ("commands.gc", "[--apply]", "list or delete what nothing refers to"),
    "doctor": ("commands.doctor", "", "show what is missing or broken, and how to repair it"),
}
VERBS = STAGES | COMMANDS


def usage() -> str:
    """One screen: every verb, its arguments and what it does."""
    lines = ["usage: sextant VERB [key=value ...]", "", "stages, as DVC runs them:"]
    lines += _verb_lines(STAGES)
    lines += ["", "commands:"]
    lines += _verb_lines(COMMANDS)
    lines.append("`make` lists the same as targets; docs/ explains them.")
    return "\n".join(lines)


def _verb_lines(verbs: Mapping[str, tuple[str, str, str]]) -> list[str]:
    lines = []
    for verb, (_, arguments, purpose) in verbs.items():
        lines.append(f"  {verb + ' ' + arguments:<36}{purpose}")
    return lines


def dispatch(argv: list[str]) -> int | None:
    """Call `main` of a verb's module with the remaining arguments; return its exit code.

    Raises UsageError for an unknown verb.
    """
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    verb, *rest = argv
    if verb not in VERBS:
        raise UsageError(f"unknown verb `{verb}`; expected one of: {', '.join(VERBS)}")
    _check_name(verb, rest)
    module = importlib.import_module(f".{VERBS[verb][0]}", __package__)
    code: int | None = module.main(rest)
    return code


def _check_name(verb: str, arguments: list[str]) -> None:
    """Raise UsageError if a stage needs `model=…` or `dataset=…` and the name is missing or wrong.

    The stage checks it too, but only after it has imported what it needs, torch for example.
    """
    group, equals, _ = VERBS[verb][1].partition("=")
    if verb in STAGES and equals and group.isalpha():
        from . import config

        config.named(arguments, group)


def start(argv: list[str]) -> int | None:
    """Run a verb in a child of the fork server if there is one, else in this process.

    With `exact: true` the caps come first, since the libraries read them when they are loaded. A
    server without them forks no child for this process.
    """
    processor.cap(argv)
    if os.environ.get("SEXTANT_FORK_SERVER") and argv and argv[0] in VERBS:
        from . import fork_server

        fork_server.run_forked(argv)
    return dispatch(argv)


def main() -> None:
    run(start)


if __name__ == "__main__":
    main()
