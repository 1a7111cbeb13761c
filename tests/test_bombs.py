"""No file runs what it contains: pickles that run code are planted in every folder that commands
read, and these commands are run.

tests/test_layout.py has the law of the source: no pickle is loaded anywhere.
"""

import gzip
import io
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Clone, copy_clone

from sextant import config, errors, evaluate, prepare, train, validate
from sextant.commands import doctor, predict
from sextant.tracking import packing, registry, store

pytestmark = pytest.mark.slow(minutes=1)

MODEL, DATASET = "ann", "churn"
STAGES = (validate.main, prepare.main, train.main, evaluate.main)
Main = Callable[[list[str]], object]


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


def as_pickle(mark: Path) -> bytes:
    return pickle.dumps(Bomb(mark))


def as_checkpoint(mark: Path) -> bytes:
    content = io.BytesIO()
    torch.save({"state_dict": Bomb(mark), "loops": 1, "optimizer_states": []}, content)
    return content.getvalue()


def as_array(mark: Path) -> bytes:
    content = io.BytesIO()
    np.save(content, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    return content.getvalue()


def as_arrays(mark: Path) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("x.npy", as_array(mark))
        archive.writestr("data.pkl", as_pickle(mark))
    return content.getvalue()


def as_gzip(mark: Path) -> bytes:
    return gzip.compress(as_pickle(mark))


def as_yaml(mark: Path) -> bytes:
    return f"!!python/object/apply:os.mkdir ['{mark}']\n".encode()


FORMS = (as_pickle, as_checkpoint, as_array, as_arrays, as_gzip, as_yaml)


def test_the_bombs_run_where_they_are_loaded(tmp_path: Path) -> None:
    loaders: dict[Callable[[Path], bytes], Callable[[bytes], object]] = {
        as_pickle: pickle.loads,
        as_checkpoint: lambda content: torch.load(io.BytesIO(content), weights_only=False),
        as_array: lambda content: np.load(io.BytesIO(content), allow_pickle=True),
        as_gzip: lambda content: pickle.loads(gzip.decompress(content)),
    }
    for form, load in loaders.items():
        mark = tmp_path / form.__name__
        load(form(mark))
        assert mark.is_dir()


@pytest.fixture(scope="module")
def place(pipeline: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return copy_clone(pipeline, tmp_path_factory.mktemp("bombs") / "clone")


@pytest.fixture(autouse=True)
def in_the_clone(place: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.path)


def registry_folder() -> Path:
    version = registry.champion_of(store.client(), MODEL)
    return packing.folder_of(version.model_uri)


def checkpoints() -> Path:
    """The folder from which a training of this clone is resumed, with two checkpoints."""
    conf = config.model(MODEL)
    folder = train.checkpoint_folder(conf, Path("data/prepared") / DATASET)
    folder.mkdir(parents=True, exist_ok=True)
    for number in (1, 2):
        (folder / f"{number:06}.ckpt").touch()
    return folder


def places() -> dict[str, tuple[Path, list[tuple[Main, list[str]]]]]:
    """By name: a folder, and the commands that read it."""
    of_model, of_dataset = [f"model={MODEL}"], [f"dataset={DATASET}"]
    (raw,) = Path("data/raw", DATASET).glob("*.csv")
    rows = Path(".scratch/rows.csv")
    rows.parent.mkdir(exist_ok=True)
    rows.write_text("".join(raw.read_text().splitlines(keepends=True)[:9]))
    ask = (predict.main, [*of_model, f"input={rows}"])
    return {
        "raw": (raw.parent, [(validate.main, of_dataset), (prepare.main, of_dataset)]),
        "prepared": (
            Path("data/prepared", DATASET),
            [(train.main, of_model), (evaluate.main, of_model)],
        ),
        "model": (Path("models", MODEL), [(evaluate.main, of_model)]),
        "checkpoints": (checkpoints(), [(train.main, of_model)]),
        "registry": (registry_folder(), [ask]),
    }


NAMES = ("raw", "prepared", "model", "checkpoints", "registry")


@contextmanager
def planted(path: Path, content: bytes) -> Iterator[None]:
    """A file has another content, in place of a link too, for the time of a block."""
    before = path.read_bytes() if path.is_file() else None
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)  # a training removes that of its checkpoints
    path.write_bytes(content)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        if before is not None and path.parent.is_dir():
            path.write_bytes(before)


def run(main: Main, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command in this process; it may refuse. A stage reads and writes what DVC tracks."""
    if main in STAGES:
        verb, name = main.__module__.rpartition(".")[2], arguments[0].partition("=")[2]
        monkeypatch.setenv("DVC_STAGE", f"{verb}@{name}")
    monkeypatch.setattr(sys, "argv", ["sextant", *arguments])
    with pytest.raises(SystemExit):
        errors.run(main)


@pytest.mark.parametrize("name", NAMES)
def test_a_bomb_in_a_file_does_not_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, commands = places()[name]
    mark = tmp_path / "ran"
    paths = []
    for path in sorted(folder.rglob("*")):
        is_code = "code" in path.relative_to(folder).parts  # that of a packed model is meant to run
        if path.is_file() and not is_code and path.name != "lock":
            paths.append(path)
    assert paths
    for number, path in enumerate(paths):
        form = FORMS[number % len(FORMS)]  # each in each would take minutes
        with planted(path, form(mark)):
            for main, arguments in commands:
                run(main, arguments, monkeypatch)
                assert not mark.exists(), f"{path} as {form.__name__}: {arguments}"
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert errors.GENERIC not in printed


def test_a_bomb_beside_the_files_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    for folder, commands in places().values():
        folder.mkdir(parents=True, exist_ok=True)
        for form in FORMS:
            for suffix in ("pkl", "pt", "npy", "npz", "ckpt", "joblib"):
                (folder / f"{form.__name__}.{suffix}").write_bytes(form(mark))
        for main, arguments in [*commands, (doctor.main, [])]:
            run(main, arguments, monkeypatch)
            assert not mark.exists(), f"{folder}: {arguments}"
        for path in folder.glob("as_*.*"):
            path.unlink(missing_ok=True)


def test_a_bomb_in_the_cache_does_not_run(place: Clone, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    objects = [path for path in (place.path / ".dvc/cache/files").rglob("*") if path.is_file()]
    assert objects
    for number, path in enumerate(sorted(objects)):
        path.chmod(0o644)
        path.unlink()
        path.write_bytes(FORMS[number % len(FORMS)](mark))
    place.run("dvc", "checkout", "--force", code=None)
    place.run("dvc", "status", code=None)
    place.run("dvc", "repro", code=None)
    assert not mark.exists()
