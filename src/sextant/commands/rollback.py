"""Return to the champion before the present one."""

from .. import config
from ..decisions import print_champion, record_champion
from ..errors import SextantError, UsageError
from ..tracking import registry, store


def roll_back(model: str) -> None:
    """Make the previous champion champion again; raises SextantError if there is none."""
    mlflow = store.client()
    champion = registry.champion_of(mlflow, model)
    previous = registry.roll_back(mlflow, champion.name)
    if previous is None:
        raise SextantError(
            f"{champion.name} had no champion before version {champion.version};"
            " `make promote` chooses one by hand"
        )
    record_champion(model, champion.name, previous)
    print_champion(champion.name, previous, champion)


def main(argv: list[str]) -> None:
    """`sextant rollback model=<name>`."""
    options, rest = config.named_options(argv, "model")
    if rest or "model" not in options:
        raise UsageError("expected: make rollback MODEL=<model>")
    roll_back(options["model"])
