"""A compiled file that a full disk has left torn is removed by the start that meets it."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from sextant import bytecode, errors


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The .pyc file of a module that can be imported."""
    source = tmp_path / "compiled_here.py"
    source.write_text("NUMBER = 1\n" * 99)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    sys.modules.pop("compiled_here", None)
    importlib.import_module("compiled_here")
    del sys.modules["compiled_here"]
    return Path(importlib.util.cache_from_source(str(source)))


@pytest.mark.parametrize("kept", [17, 40, 200])
def test_a_torn_file_is_removed_and_the_next_start_works(
    compiled: Path, kept: int, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled.write_bytes(compiled.read_bytes()[:kept])
    with pytest.raises(SystemExit):
        errors.run(lambda _: importlib.import_module("compiled_here").NUMBER)
    line = f"sextant: {compiled} was damaged, as after a full disk, and is removed; run the same"
    assert capsys.readouterr().err.startswith(line)
    assert not compiled.exists()
    assert importlib.import_module("compiled_here").NUMBER == 1


def test_errors_of_the_code_itself_remove_nothing(compiled: Path) -> None:
    try:
        raise ValueError("no bytecode")
    except ValueError as error:
        assert bytecode.remove_torn(error) is None
    assert compiled.is_file()
