"""The processor of a model: what is kept of it, when a difference is explained, and `exact`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cases
import pytest

from sextant import config, processor
from sextant.errors import SextantError, UsageError

CPUINFO = "processor : 0\nmodel name\t: A Processor\nflags\t\t: fpu {}\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A processor with AVX-512 and no caps, in a folder with conf/trainer.yaml."""
    monkeypatch.setattr(processor, "CPUINFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(CPUINFO.format("avx avx2 avx512f avx512_vnni"))
    for name in processor.CAPS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    Path("conf").mkdir()
    Path("conf/trainer.yaml").write_text("accelerator: cpu\ndevices: 1\nexact: false  # why\n")
    return tmp_path


def test_the_highest_instruction_set_is_named_with_the_caps_of_the_environment(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert processor.here("cpu") == {
        "processor": "A Processor",
        "instruction_set": "AVX512_VNNI",
    }
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    assert processor.instruction_set() == "AVX512_VNNI (ATEN_CPU_CAPABILITY=avx2)"
    (machine / "cpuinfo").unlink()  # as on a Mac
    assert processor.name()


@cases.each(
    ("setting", "argv", "exact"),
    [
        ("exact: false", [], False),
        ("exact: true", [], True),
        ("exact: true", ["trainer.exact=false"], False),
        ("", ["trainer.exact=true"], True),
        ("# exact: true", [], False),
        ("exact: True   # for the team", [], True),
    ],
)
def test_exact_is_read_from_conf_and_the_command_line(
    machine: Path, setting: str, argv: list[str], exact: bool
) -> None:
    Path("conf/trainer.yaml").write_text(f"devices: 1\n{setting}\n")
    assert processor.exact(argv) == exact


def test_exact_caps_this_process_and_needs_avx2(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in processor.CAPS:
        monkeypatch.setenv(name, "")  # so that monkeypatch takes back what `cap` sets
    processor.cap([])
    assert not processor.capped()
    processor.cap(["train", "trainer.exact=true"])
    assert processor.capped() and processor.instruction_set() == processor.EXACT
    (machine / "cpuinfo").write_text(CPUINFO.format("avx"))
    with pytest.raises(SextantError, match="A Processor lacks AVX2"):
        processor.cap(["train", "trainer.exact=true"])


def test_exact_is_refused_on_a_gpu(workspace: Path) -> None:
    overrides = ["trainer.exact=true"]
    with pytest.raises(UsageError, match="`exact: true` needs `accelerator: cpu`"):
        config.model("ann", overrides)
    assert config.model("ann", [*overrides, "trainer.accelerator=cpu"]).trainer.exact


@pytest.mark.slow
def test_the_libraries_obey_the_caps() -> None:
    script = (
        "import torch, numpy._core._multiarray_umath as m;"
        "print(torch.backends.cpu.get_cpu_capability(), m.__cpu_features__['X86_V4'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **processor.CAPS},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("AVX2 False\n", "")


def test_the_processor_of_a_digest_stays_until_the_digest_changes(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    processor.record("som", "d1", "cpu")
    processor.record("ann", "d2", "cpu")
    assert json.loads(Path("reports/processors/ann.json").read_text())["model"] == "d2"
    (machine / "cpuinfo").write_text(CPUINFO.format("avx2").replace("A Proc", "Another Proc"))
    processor.record("som", "d1", "cpu")
    assert processor.recorded("som", "d1")["processor"] == "A Processor"
    assert processor.recorded("som", "d3") == {}
    processor.record("som", "d3", "cpu")
    assert processor.describe(processor.recorded("som", "d3")) == "Another Processor, AVX2"
    for name, value in processor.CAPS.items():
        monkeypatch.setenv(name, value)
    processor.record("som", "d4", "cpu")  # any processor would have computed it
    assert processor.recorded("som", "d4") == {"instruction_set": processor.EXACT}


def lock(data: str, model: str) -> str:
    stage = (
        f"  train@som:\n    cmd: x\n    deps:\n    - md5: {data}\n    outs:\n    - md5: {model}\n"
    )
    return f"schema: '2.0'\nstages:\n{stage}"


def test_a_difference_is_explained_only_by_another_processor(machine: Path) -> None:
    def line(digest: str, instruction_set: str, data: str) -> str:
        """The explanation of what is there, beside a commit with digest d, set s and data x."""
        Path("reports/processors").mkdir(parents=True, exist_ok=True)
        entry = {"model": digest, "processor": "P", "instruction_set": instruction_set}
        Path("reports/processors/som.json").write_text(json.dumps(entry))
        Path("dvc.lock").write_text(lock(data, digest))
        return processor.explanation(["som", "ann"])

    assert line("d", "s", "x") == ""  # no commit
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "as it is"]):
        author = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *author, *command], check=True)
    assert line("d", "s", "x") == ""
    assert line("d", "another", "x") == ""  # the same bytes
    assert line("another", "s", "x") == ""  # the same processor
    assert line("another", "another", "y") == ""  # other data
    explained = line("another", "AVX2", "x")
    assert explained.startswith("som: computed on another processor than the commit's")
    assert "(P, AVX2; the commit: P, s)" in explained
