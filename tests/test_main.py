"""The command line: one door, a usage of one screen, and nothing heavy before it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest

from sextant import __main__ as door

LOADED = "import sys, sextant.__main__ as door\n{}\nprint(*sys.modules, sep='\\n')"


def loaded(statement: str) -> set[str]:
    command = [sys.executable, "-c", LOADED.format(statement)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_usage_names_every_verb_on_one_screen():
    lines = door.usage().splitlines()
    assert len(lines) <= 34 and max(map(len, lines)) <= 100
    for verb in door.VERBS:
        assert any(line.split()[:1] == [verb] for line in lines)


def test_every_verb_has_a_module_with_a_main():
    for verb, (name, *_) in door.VERBS.items():
        module = name.replace(".", "/")
        text = (Path(door.__file__).parent / f"{module}.py").read_text()
        assert "\ndef main(argv: list[str])" in text, verb
        assert "if __name__" not in text, f"a second door: {verb}"


def test_help_and_a_usage_error_import_nothing_heavy():
    heavy = {"numpy", "pandas", "pydantic", "torch", "mlflow", "hydra", "yaml", "requests"}
    for statement in ("door.dispatch(['--help'])", "door.dispatch([])"):
        modules = loaded(statement)
        assert "sextant.errors" in modules and not heavy & modules


def test_a_stage_without_a_name_is_refused_before_its_imports(one_model):
    refused = "try: door.dispatch([verb])\n  except door.UsageError: pass"
    verbs = ["pull", "validate", "prepare", "train", "evaluate"]
    modules = loaded(f"for verb in {verbs}:\n  {refused}\n  else: raise AssertionError(verb)")
    assert "sextant.config" in modules
    assert not {"sextant.train", "torch", "pandas", "mlflow"} & modules


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 0, "usage: sextant VERB"),
        (["--help"], 0, "usage: sextant VERB"),
        (["tarin", "model=ann"], 2, "sextant: unknown verb `tarin`; expected one of: pull, "),
        (["train", "ann"], 2, "sextant: `ann` is not understood; expected model=… or key=value"),
    ],
)
def test_the_door_answers_in_one_line(words, code, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sextant", *words])
    with pytest.raises(SystemExit) as ended:
        door.main()
    assert ended.value.code == code
    out, err = capsys.readouterr()
    assert message in (err if code else out)
    assert len(err.splitlines()) == (1 if code else 0)


def test_python_runs_the_package_as_a_command():
    done = subprocess.run([sys.executable, "-m", "sextant"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: sextant VERB")
