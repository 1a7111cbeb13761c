"""A training that memory cannot hold is refused before its net is built, by file and setting."""

import re
import resource
from pathlib import Path
from typing import Any

import fuzzed
import pytest
import torch

from sextant import config, memory, optimizers
from sextant.errors import UsageError

SCHEDULE: dict[str, Any] = {
    **{"lr": "constant", "warmup": 0.0, "max_epochs": 1, "batch_size": 16, "monitor": "loss"},
    **{"patience": 1, "clip": None, "ema": 0.9, "threads": 1, "precision": "float32"},
}
FREE = 2.0**34  # bytes
# By subject of the fuzz tests, one for each family: settings of its net that no machine can hold.
TOO_LARGE: dict[str, dict[str, Any]] = {
    "tabular": {"hidden_sizes": [10**6, 10**6], "bins": 10**9, "embedding_size": 10**9},
    "amounts": {"bodies": 10**9, "members": 10**9},
    "images": {"widths": [3, 10**6]},
    "series": {"hidden_size": 10**6, "layers": 10**9},
    "ratings": {"hidden": 10**9},
    "rated": {"hidden_sizes": [10**20]},
    "clips": {"hidden": [10**10]},
    "text": {"hidden_size": 10**6, "embedding": 10**9},
    "mapped": {"rows": 10**6, "cols": 10**9},
    "hybrid": {"rows": 10**9, "hidden_sizes": [10**6, 10**6]},
    "atlas": {"maps": 10**9, "cols": 10**9},
    "states": {"hidden": 10**6},
}
CASES = [(name, setting) for name, settings in TOO_LARGE.items() for setting in settings]


def check(name: str, net: dict[str, Any], **schedule: object) -> None:
    """Check the training of a subject's model with other settings of its net and its schedule."""
    subject = fuzzed.subject(name)
    conf = config.ModelConf.model_construct(
        name="x",
        family=subject.family,
        net={**subject.net, **net},
        optimizer={"name": "adamw"},
        trainer=config.Trainer(accelerator="cpu", devices=1),
    )
    encoder = fuzzed.model(name).encoder
    train = fuzzed.prepared_parts(subject, subject.files)["train"]
    memory.check(
        conf, optimizers.Schedule(**SCHEDULE | schedule), encoder.sizes, encoder.encode(train)
    )


@pytest.mark.parametrize(("name", "setting"), CASES)
def test_a_net_beyond_memory_is_refused_by_its_setting(
    name: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "limit", lambda accelerator: FREE)
    check(name, {})
    value = TOO_LARGE[name][setting]
    with pytest.raises(UsageError) as refused:
        check(name, {setting: value})
    message = (
        f"conf/model/x.yaml net: `{setting}` is {value}, and training this net takes more than"
    )
    assert str(refused.value).startswith(message)
    assert str(refused.value).endswith("; set it lower")


def test_a_batch_beyond_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net = {"hidden_sizes": [200], "members": 64}
    monkeypatch.setattr(memory, "limit", lambda accelerator: 2.0**23)
    check("tabular", net, batch_size=4)
    with pytest.raises(UsageError) as refused:
        check("tabular", net, batch_size=10**6)
    assert re.search(
        r"schedule: `batch_size` is 1000000, and a step on \d+ rows takes more than the 0.0 GiB .*;"
        " set it lower, or make the net smaller",
        str(refused.value),
    )


def test_several_settings_are_named_where_one_alone_does_not_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "limit", lambda accelerator: FREE)
    with pytest.raises(UsageError, match="set lower `bins: 1000000000` or `embedding_size: 10"):
        check("tabular", {"bins": 10**9, "embedding_size": 10**8, "hidden_sizes": [10**6, 10**6]})


def test_an_estimate_changes_no_draw() -> None:
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    check("tabular", {})
    assert torch.equal(torch.rand(5), expected)


def test_tensors_count_while_they_live() -> None:
    counter = memory.Counter(10_000, 100)
    with counter, memory.META:
        for _ in range(10):
            kept = torch.zeros(1000)  # 4,000 bytes, beside those of the one before it
        with pytest.raises(memory.TooLargeError):
            torch.cat([kept, kept])
    with counter, memory.META, pytest.raises(memory.TooManyError):
        kept_too = [torch.zeros(1) for _ in range(200)]
        assert kept_too


# --- how much there is --------------------------------------------------------------------------


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_limits_of_control_groups_count(tmp_path: Path) -> None:
    groups = tmp_path / "cgroup"
    groups.write_text("0::/team/job\n")
    write(tmp_path / "fs/memory.max", "7000\n")  # in a container, of the container
    write(tmp_path / "fs/team/memory.max", "5000\n")
    write(tmp_path / "fs/team/job/memory.max", "max\n")
    assert memory._of_groups(groups, tmp_path / "fs") == [5000.0, 7000.0]
    groups.write_text("7:cpu:/a\n3:memory,hugetlb:/docker/1f\n")
    write(tmp_path / "fs/memory/docker/1f/memory.limit_in_bytes", "3000\n")
    assert memory._of_groups(groups, tmp_path / "fs") == [3000.0]
    assert memory._of_groups(tmp_path / "none", tmp_path / "fs") == []


def test_the_limit_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = memory.limit()
    soft = {resource.RLIMIT_AS: 10**15, resource.RLIMIT_DATA: resource.RLIM_INFINITY}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (soft[kind], resource.RLIM_INFINITY))
    assert memory.limit() == machine
    soft[resource.RLIMIT_AS] = 10
    assert memory.limit() == 0
