"""The one door: `python -m sextant VERB key=value ...`, installed as `sextant`."""

import importlib

from .errors import UsageError, run

STAGES = {
    "pull": ("pull", "dataset=churn", "fetch the raw files and check their size and sha256"),
    "validate": ("validate", "dataset=churn", "check the raw data against their expectations"),
    "prepare": ("prepare", "dataset=churn", "repair the rows and split them into four parts"),
    "train": ("train", "model=ann", "train, or resume an interrupted training"),
    "evaluate": ("evaluate", "model=ann", "metrics on the test part, beside the baselines"),
    "register": ("register", "[--write] [model=ann]", "let the gate decide what becomes champion"),
    "report": ("report", "", "draw the page, reports/index.html"),
}
COMMANDS = {
    "check": ("check", "[model=ann]", "check params.yaml and every conf before anything runs"),
    "repro": ("commands.repro", "[stage ...]", "`dvc repro` with numbered stages"),
    "leaderboard": ("commands.leaderboard", "", "one table of all models"),
    "predict": ("commands.predict", "model=ann input=rows.csv", "ask the champion"),
    "serve": ("commands.serve", "model=ann [port=5001]", "the champion over HTTP"),
    "ui": ("commands.ui", "[port=5000]", "MLflow's pages"),
    "promote": ("commands.promote", "model=ann version=3", "make a version champion by hand"),
    "rollback": ("commands.rollback", "model=ann", "back to the champion before"),
    "pin": ("commands.pin", "dataset=churn", "write what the source has now into the conf"),
    "retrain": ("commands.retrain", "", "pin, repro, register, push, summary"),
    "doctor": ("commands.doctor", "", "what is missing or broken here, and how to mend it"),
}
VERBS = STAGES | COMMANDS


def usage() -> str:
    """One screen: every verb, its arguments and what it does."""
    lines = ["usage: sextant VERB [key=value ...]", "", "stages, as DVC runs them:"]
    for title, verbs in (("", STAGES), ("commands:", COMMANDS)):
        if title:
            lines += ["", title]
        for verb, (_, arguments, purpose) in verbs.items():
            lines.append(f"  {verb + ' ' + arguments:<36}{purpose}")
    lines += ["", "`make` explains the same as targets; docs/ has the pages."]
    return "\n".join(lines)


def dispatch(argv: list[str]) -> int | None:
    """Run the main function of a verb with the words after it; its exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    verb, *rest = argv
    if verb not in VERBS:
        raise UsageError(f"unknown verb `{verb}`; expected one of: {', '.join(VERBS)}")
    module = importlib.import_module(f".{VERBS[verb][0]}", __package__)
    code: int | None = module.main(rest)
    return code


def main() -> None:
    run(dispatch)


if __name__ == "__main__":
    main()
