"""Return to the champion before the present one."""

from .. import config
from ..decisions import print_champion, record_champion
from ..errors import SextantError, UsageError
from ..tracking import promotions, registry, store
from .promote import DRY_RUN

FREEZE = "--freeze"
USAGE = "make rollback MODEL=<model> [WHY=<reason>] [FREEZE=1] [DRY_RUN=1]"


def roll_back(model: str, why: str = "", freeze: bool = False, dry_run: bool = False) -> None:
    """Make the previous champion champion again; raises SextantError if there is none.

    With `freeze` the gate promotes no further version by itself until `make promote`.
    """
    mlflow = store.client()
    champion = registry.champion_of(mlflow, model)
    previous = promotions.previous_champion(mlflow, champion.name)
    if previous is None:
        raise SextantError(
            f"{champion.name} had no champion before version {champion.version};"
            " `make promote` chooses one by hand"
        )
    if dry_run:
        print(
            f"{champion.name}: version {previous} would become champion, version"
            f" {champion.version} is it now"
        )
        return
    if freeze:  # first, so that no gate promotes in between
        promotions.freeze(mlflow, champion.name, why)
    restored = promotions.roll_back(mlflow, champion.name, why)
    number = restored or previous
    record_champion(model, champion.name, number)
    print_champion(champion.name, number, champion)
    if freeze:
        print(
            f"{champion.name}: the gate promotes no version by itself until"
            f" `make promote MODEL={model}`"
        )


def main(argv: list[str]) -> None:
    """`sextant rollback model=<name> [why=<reason>] [--freeze] [--dry-run]`."""
    arguments = [argument for argument in argv if argument not in (DRY_RUN, FREEZE)]
    options, rest = config.named_options(arguments, "model", "why")
    if rest or "model" not in options:
        raise UsageError(f"expected: {USAGE}")
    roll_back(options["model"], options.get("why", ""), FREEZE in argv, DRY_RUN in argv)
