"""The processor that computed a model, and `exact: true`, which makes processors compute alike.

Libraries choose their code by the instruction set, and MKL by the maker too, so that the last
digits of a model differ between processors: the metrics agree to the fourth digit, the bytes do
not. Which processor computed a model is kept in reports/processors/, with the model's digest. A
commit has it beside dvc.lock, and no stage depends on it.

This module imports the standard library alone: `cap` has to run before torch and NumPy are loaded.
"""

import json
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from . import errors, files, paths
from .errors import SextantError

# With `exact: true`, the instruction sets that libraries may use: those of every x86-64 processor
# since 2013 or 2015 (AVX2). Of MKL's branches, COMPATIBLE is the only one that processors of every
# maker have: Intel, "oneMKL Developer Guide", Specifying Code Branches.
CAPS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
EXACT = "AVX2 (exact)"
ARGUMENT = "trainer.exact="
SETTING = re.compile(r"^exact:[ \t]*(\w+)", re.MULTILINE)
TRUE = ("true", "yes", "on")  # of YAML 1.1
# The highest is named: flags of /proc/cpuinfo, and sysctl's on a Mac.
SETS = (
    *(("AMX", "amx_tile"), ("AVX512_FP16", "avx512_fp16"), ("AVX512_BF16", "avx512_bf16")),
    *(("AVX512_VNNI", "avx512_vnni"), ("AVX512", "avx512f"), ("AVX2", "avx2"), ("AVX", "avx")),
)
CPUINFO = Path("/proc/cpuinfo")


# --- exact --------------------------------------------------------------------------------------


def exact(argv: Sequence[str] = ()) -> bool:
    """Whether conf/trainer.yaml, or an argument that overrides it, says `exact: true`."""
    try:
        text = (paths.CONF / "trainer.yaml").read_text(encoding="utf-8")
    except OSError:  # not in a checkout
        text = ""
    setting = SETTING.search(text)
    value = setting[1] if setting else ""
    for argument in argv:
        if argument.startswith(ARGUMENT):
            value = argument.removeprefix(ARGUMENT)
    return value.lower() in TRUE


def cap(argv: Sequence[str]) -> None:
    """Cap the instruction sets of this process and those that it starts, if conf says `exact`.

    Raises SextantError on a processor that lacks the sets of the cap.
    """
    if not exact(argv):
        return
    if "avx2" not in _flags():
        raise SextantError(
            f"conf/trainer.yaml has `exact: true`, and {name()} lacks AVX2; exact models are"
            " computed on x86-64 processors with AVX2"
        )
    os.environ.update(CAPS)


def capped() -> bool:
    """Whether this process computes with the caps of `exact`."""
    return CAPS.items() <= os.environ.items()


# --- this processor -----------------------------------------------------------------------------


def name() -> str:
    """The name of this processor, as its maker wrote it."""
    try:
        model = re.search(r"^model name\s*: (.+)$", CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        model = None
    return model[1].strip() if model else platform.processor() or platform.machine()


def _flags() -> set[str]:
    try:
        flags = re.search(r"^flags\s*: (.+)$", CPUINFO.read_text(), re.MULTILINE)
    except OSError:
        return set()
    return set(flags[1].split()) if flags else set()


def instruction_set() -> str:
    """The highest instruction set of this processor, with the variables that forbid some of it."""
    if capped():
        return EXACT
    flags = _flags()
    highest = platform.machine()
    for label, flag in SETS:
        if flag in flags:
            highest = label
            break
    caps = [f"{variable}={os.environ[variable]}" for variable in CAPS if variable in os.environ]
    return f"{highest} ({', '.join(caps)})" if caps else highest


def here(accelerator: str) -> dict[str, str]:
    """`processor` and `instruction_set` of a training in this process, which may use a GPU."""
    label = name()
    if accelerator in ("auto", "gpu"):
        import torch

        if torch.cuda.is_available():
            label = f"{torch.cuda.get_device_name(0)} beside {label}"
    return {"processor": label, "instruction_set": instruction_set()}


# --- what computed a model ----------------------------------------------------------------------


def record(model: str, digest: str, accelerator: str) -> None:
    """Keep in reports/processors/ that this processor computed the model of this digest.

    The file stays while the digest does: another processor has computed the same bytes.
    """
    path = paths.computed_on(model)
    if _entry(_text(path)).get("model") == digest:
        return
    entry = {"model": digest, **here(accelerator)}
    if capped():
        del entry["processor"]  # any other would have computed the same
    files.write_json(path, entry)


def recorded(model: str, digest: str) -> dict[str, str]:
    """What computed the model of this digest; empty if that is not known."""
    entry = _entry(_text(paths.computed_on(model)))
    if entry.get("model") != digest:
        return {}
    return {key: value for key, value in entry.items() if key != "model"}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _entry(text: str) -> dict[str, str]:
    try:
        entry: dict[str, str] = json.loads(text)
    except ValueError:  # there is none, or a merge has left its marks: the next training writes it
        return {}
    return entry


def describe(entry: Mapping[str, str]) -> str:
    """An entry in words: `Intel(R) Xeon(R) Processor, AVX512`; empty for an empty entry."""
    return ", ".join([entry[key] for key in ("processor", "instruction_set") if key in entry])


def explanation(models: Iterable[str]) -> str:
    """Why models differ from those of the commit, if another processor computed those.

    One line; empty where no model differs, or something else does: its code, data or settings.
    """
    changed = _git("diff", "--name-only", "--relative", "HEAD", "--", "reports/processors")
    different = []
    for model in models:
        if str(paths.computed_on(model)) not in changed.splitlines():
            continue
        theirs, ours = _committed(model), _entry(_text(paths.computed_on(model)))
        both = theirs and ours and theirs["model"] != ours["model"]
        if both and describe(theirs) != describe(ours) and _same_inputs(f"train@{model}"):
            different.append(model)
    if not different:
        return ""
    theirs = _committed(different[0])
    ours = _entry(_text(paths.computed_on(different[0])))
    return (
        f"{', '.join(different)}: computed on another processor than the commit's, so the last"
        f" digits differ ({describe(ours)}; the commit: {describe(theirs)}); `exact: true` in"
        " conf/trainer.yaml makes processors compute alike"
    )


def _committed(model: str) -> dict[str, str]:
    return _entry(_git("show", f"HEAD:./{paths.computed_on(model)}"))


def _git(*arguments: str) -> str:
    """The output of a git command; empty if it fails or there is no git."""
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def _same_inputs(stage: str) -> bool:
    """Whether a stage has the dependencies and parameters that it has in the commit's dvc.lock."""
    texts = []
    for lock in (errors.committed_lock(), errors.lock_text()):
        _, _, rest = lock.partition(f"\n  {stage}:\n")
        texts.append(rest.partition("\n    outs:")[0])
    return texts[0] == texts[1] != ""
