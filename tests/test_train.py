"""Stage train: the lock, the checkpoints, the curves, and a training by hand."""

import csv
import math
import os
import tempfile
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT

from sextant import config, optimizers, plugins, prepare, saved_model
from sextant.errors import SextantError, UsageError
from sextant.files import folder_digest, read_json, write_json

MODEL = next(iter(yaml.safe_load((ROOT / "params.yaml").read_text())["models"]))


def schedule(precision: str) -> optimizers.Schedule:
    return optimizers.Schedule(
        lr="constant", warmup=0.0, max_epochs=3, batch_size=7, monitor="w", patience=3,
        clip=None, ema=None, threads=1, precision=precision,
    )  # fmt: skip


def test_a_second_training_of_the_same_names_the_first(tmp_path):
    from sextant import train

    folder = tmp_path / "digest"
    with train.locked(folder):
        with pytest.raises(
            SextantError,
            match=f"process {os.getpid()} is training this already .*; wait for it, or stop",
        ):
            with train.locked(folder):
                raise AssertionError("both hold it")
        assert (folder / "lock").read_text() == str(os.getpid())  # the second one wrote nothing
    assert not folder.exists()


def test_checkpoints_stay_where_a_training_failed(tmp_path):
    from sextant import train

    folder = tmp_path / "digest"
    with pytest.raises(ZeroDivisionError), train.locked(folder):
        (folder / "000000.ckpt").touch()
        raise ZeroDivisionError
    with train.locked(folder):
        assert (folder / "000000.ckpt").exists()


def test_a_checkpoint_fits_conf_data_and_seed_or_is_not_met(workspace, monkeypatch):
    from sextant import train

    data = Path("data/prepared/x")
    data.mkdir(parents=True)
    (data / "profile.json").write_text("{}")
    conf = config.model(MODEL)
    usual = train.checkpoint_folder(conf, data)
    assert (
        usual.parent == Path(".checkpoints") / MODEL
        and train.checkpoint_folder(config.model(MODEL), data) == usual
    )
    gate = conf.gate.model_copy(update={"margin": 0.5})
    assert train.checkpoint_folder(conf.model_copy(update={"gate": gate}), data) == usual
    for change in (
        {"seed": 7},
        {"net": {}},
        {"optimizer": {}},
        {"schedule": {}},
        {"budget": "full"},
    ):
        assert train.checkpoint_folder(conf.model_copy(update=change), data) != usual
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")  # as in a copy made by `dvc exp run --temp`
    assert train.checkpoint_folder(conf, data) == Path("/elsewhere") / usual
    (data / "profile.json").write_text('{"other": "data"}')
    assert train.checkpoint_folder(conf, data).name != usual.name


def test_the_newest_checkpoint_that_can_be_read_is_taken(tmp_path, capsys):
    from sextant import train

    assert train.readable_checkpoint(tmp_path) is None
    for number in range(3):
        content = {**dict.fromkeys(train.CHECKPOINT_KEYS), "epoch": number}
        torch.save(content, tmp_path / f"{number:06}.ckpt")
    assert train.readable_checkpoint(tmp_path) == tmp_path / "000002.ckpt"
    assert capsys.readouterr().err == ""

    whole = (tmp_path / "000002.ckpt").read_bytes()
    (tmp_path / "000002.ckpt").write_bytes(whole[: len(whole) // 2])
    torch.save({"weights": 1}, tmp_path / "000001.ckpt")  # another program's
    assert train.readable_checkpoint(tmp_path) == tmp_path / "000000.ckpt"
    assert train.checkpoints(tmp_path) == [tmp_path / "000000.ckpt"]
    first, second = capsys.readouterr().err.splitlines()
    assert "000002.ckpt cannot be read" in first and "is now 000002.damaged" in first
    assert "000001.ckpt cannot be read (it lacks loops, optimizer_states, state_dict)" in second


def test_a_checkpoint_is_whole_or_not_there(tmp_path, monkeypatch):
    from sextant import train

    written = tmp_path / "000001.ckpt"
    monkeypatch.setenv("TMPDIR", str(tmp_path / "no such folder"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    train.WholeCheckpoints().save_checkpoint({"epoch": 1}, written)
    assert torch.load(written, weights_only=True) == {"epoch": 1}

    def full(checkpoint, path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        train.WholeCheckpoints().save_checkpoint({"epoch": 2}, written)
    assert torch.load(written, weights_only=True) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [written]


def test_the_curves_come_back_as_they_were(tmp_path):
    from sextant import train

    history = [
        {"epoch": e, "train/loss": math.exp(-e), "val/log_loss": 1 / (3 + e)} for e in range(1, 4)
    ]
    train.write_curves(tmp_path / "curves.csv", history)
    with (tmp_path / "curves.csv").open(newline="") as stream:
        assert [
            {key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)
        ] == history


@pytest.mark.parametrize("accelerator", ["auto", "cpu"])
def test_bfloat16_is_taken_only_where_it_was_asked_for(accelerator):
    from sextant import train

    trainer = config.Trainer(accelerator=accelerator, devices=1)
    assert train.precision(schedule("float32"), trainer) == "32-true"
    assert train.precision(schedule("bfloat16"), trainer) in ("32-true", "bf16-mixed")


@pytest.mark.parametrize(
    ("avx512", "amx", "name", "faster"),
    [
        (False, False, "Intel Xeon", False),
        (True, False, "Intel Xeon", False),
        (True, True, "Intel Xeon", True),
        (True, False, "AMD EPYC", True),
    ],
)
def test_bfloat16_is_faster_by_amx_or_by_the_avx512_of_other_makers(
    avx512, amx, name, faster, monkeypatch
):
    from sextant import train

    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name})
    assert train.cpu_multiplies_bfloat16_faster() == faster


# --- the whole of it ----------------------------------------------------------------------------


@pytest.fixture
def prepared(workspace) -> config.ModelConf:
    """The first model at `budget: smoke`, with its data's twin prepared."""
    conf = config.model(MODEL, ["budget=smoke"])
    dataset = config.dataset(conf.dataset)
    kind = plugins.kind(dataset.kind)
    folder = Path("data/prepared") / dataset.name
    kind.twin.write_twin(config.twin(dataset), dataset.columns, Path("raw"))
    parts = prepare.prepare(kind.rows.read(Path("raw"), dataset.columns), dataset)
    folder.mkdir(parents=True)
    for part, rows in parts.items():
        kind.rows.write(rows, folder / part)
    write_json(
        folder / "profile.json",
        prepare.profile(parts, dataset, {"source": "embedded", "digest": "0123"}),
    )
    return conf


@pytest.mark.slow
def test_by_hand_it_trains_into_scratch_the_same_every_time(prepared, capsys):
    from sextant import train

    words = [f"model={MODEL}", "budget=smoke", "model.schedule.max_epochs=2"]
    train.main(words)
    scratch = Path(".scratch") / MODEL
    card = read_json(scratch / "model" / saved_model.CARD)
    recorded = {
        "model": MODEL,
        "dataset": prepared.dataset,
        "source": "embedded",
        "data": "0123",
        "budget": "smoke",
    }
    assert {key: card[key] for key in recorded} == recorded
    assert len((scratch / "curves.csv").read_text().splitlines()) == 1 + 2
    assert f"{MODEL}: epoch {card['epoch']} kept, val " in capsys.readouterr().out
    assert (
        not list(Path(".checkpoints").rglob("*.ckpt"))
        and not Path("models").exists()
        and not Path("reports").exists()
    )
    first = folder_digest(scratch)
    train.main(words)
    assert folder_digest(scratch) == first
    train.main([*words, "seed=7"])
    assert folder_digest(scratch) != first


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        (
            [f"model={MODEL}"],
            SextantError,
            r"data/prepared/\w+/profile.json does not exist; `make repro` creates it",
        ),
        (["model=strawberry"], UsageError, "unknown model `strawberry`"),
        (
            [f"model={MODEL}", "model.optimizer.lr=-1"],
            UsageError,
            "optimizer: `lr` is -1; input should be greater",
        ),
        (
            [f"model={MODEL}", "model.optimizer.lrr=1"],
            UsageError,
            "unknown key `model.optimizer.lrr`; did you mean `lr`",
        ),
    ],
)
def test_what_cannot_be_trained_says_so_and_writes_nothing(workspace, words, error, says):
    from sextant import train

    with pytest.raises(error, match=says):
        train.main(words)
    assert sorted(path.name for path in workspace.iterdir()) == ["conf", "params.yaml"]
