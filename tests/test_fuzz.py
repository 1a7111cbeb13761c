"""Mutated files, questions, confs and suites, and files for `make new`: an answer or one line that
refuses them, and nothing else.

`make test` tries a few mutations of each sort; `make fuzz` tries thousands. A failure shows its
case, which `make fuzz CASE="…"` tries alone.
"""

import functools
import os
import random
import re
import resource
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import NamedTuple

import fuzzed
import fuzzed_confs
import listed
import pytest
import yaml
from conftest import ROOT
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from mutations import (
    BYTE_DAMAGES,
    CONF_DAMAGES,
    DAMAGES,
    HARMLESS,
    HARMLESS_IN_CONF,
    LARGEST,
    LINE_DAMAGES,
    RENAMING,
    TYPING,
    File,
    rewritten,
)

from sextant import check, config, errors
from sextant.errors import SextantError
from sextant.tracking import store

COUNT = int(os.environ.get("SEXTANT_FUZZ", "16"))  # cases; those of `make new` come on top
CASE = os.environ.get("SEXTANT_FUZZ_CASE", "")  # the one to try
LONGEST = 1200  # characters of a message
SECONDS = 20  # of processor time
PATIENCE = 10  # times as much by the clock, for a machine on which others compute too
MEMORY = 2 * 2**20  # KiB

Outcome = fuzzed.Canonical | str  # frames, or the line that refuses


class Case(NamedTuple):
    """Mutations of a subject, drawn with a seed."""

    sort: str
    subject: str
    seed: int
    mutations: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.sort} {self.subject} {self.seed} {'+'.join(self.mutations)}"


def parsed(text: str) -> Case:
    """The inverse of `str` of a case."""
    sort, subject, seed, mutations = text.split()
    return Case(sort, subject, int(seed), tuple(mutations.split("+")))


# --- files and questions ------------------------------------------------------------------------

FORMED = [
    "tabular",
    "headerless",
    "amounts",
    "series",
    "ratings",
    "rated",
    "pixels",
]  # in files of text


def rng_of(case: Case) -> random.Random:
    """A generator for a case; it does not depend on the hash seed of the process."""
    return random.Random(zlib.crc32(f"{case.sort} {case.subject}".encode()) + case.seed)


def damaged(file: File, case: Case, rng: random.Random) -> File:
    for name in case.mutations:
        file = DAMAGES[name](file, rng)
    return file


def with_file(subject: fuzzed.Subject, old: str, new: File) -> dict[str, bytes]:
    """The raw files, one of them replaced."""
    others = {name: content for name, content in subject.files.items() if name != old}
    return others | {new.name: new.content}


def parts_of_damaged(case: Case) -> fuzzed.Canonical:
    subject = fuzzed.subject(case.subject)
    rng = rng_of(case)
    name = rng.choice(subject.mutated)
    file = damaged(File(name, subject.files[name]), case, rng)
    return fuzzed.prepared_parts(subject, with_file(subject, name, file))


def answers_to_damaged(case: Case) -> fuzzed.Canonical:
    return fuzzed.answers(
        case.subject, damaged(fuzzed.subject(case.subject).question, case, rng_of(case))
    )


def answers_to_damaged_frame(case: Case) -> fuzzed.Canonical:
    return fuzzed.frame_answers(
        case.subject, damaged(fuzzed.subject(case.subject).question, case, rng_of(case))
    )


@functools.cache
def clean_parts(name: str, is_sorted: bool) -> fuzzed.Canonical:
    subject = fuzzed.subject(name)
    parts = fuzzed.prepared_parts(subject, subject.files)
    return fuzzed.canonical(parts, subject.order, is_sorted)


@functools.cache
def clean_answers(name: str, is_sorted: bool) -> fuzzed.Canonical:
    subject = fuzzed.subject(name)
    return fuzzed.canonical(fuzzed.answers(name, subject.question), subject.order, is_sorted)


def is_reordered(case: Case) -> bool:
    return "with_rows_in_another_order" in case.mutations


def parts_of_rewritten(case: Case) -> fuzzed.Canonical:
    """The parts of a file that says the same; raises AssertionError if they differ."""
    subject = fuzzed.subject(case.subject)
    assert subject.form is not None
    rng = rng_of(case)
    name = rng.choice(subject.mutated)
    form = form_of(subject, name)
    file = rewritten(File(name, subject.files[name]), case.mutations, form, rng)
    parts = fuzzed.prepared_parts(subject, with_file(subject, name, file))
    is_sorted = is_reordered(case)
    fuzzed.assert_same(
        fuzzed.canonical(parts, subject.order, is_sorted), clean_parts(case.subject, is_sorted)
    )
    return parts


def form_of(subject: fuzzed.Subject, name: str) -> fuzzed.Form:
    """How a raw file is written: the lists of films and users have delimiters of their own."""
    assert subject.form is not None
    if name in ("u.item", "u.user"):
        return subject.form._replace(delimiter="|", reorder=False)
    return subject.form


def answers_to_rewritten(case: Case) -> fuzzed.Canonical:
    """The answers to a file that asks the same; raises AssertionError if they differ."""
    subject = fuzzed.subject(case.subject)
    assert subject.asked is not None
    question = rewritten(subject.question, case.mutations, subject.asked, rng_of(case))
    answers = fuzzed.answers(case.subject, question)
    is_sorted = is_reordered(case)
    fuzzed.assert_same(
        fuzzed.canonical(answers, subject.order, is_sorted), clean_answers(case.subject, is_sorted)
    )
    return answers


# --- expectations, and make new -----------------------------------------------------------------


def report_by_damaged_suite(case: Case) -> fuzzed.Canonical:
    """The report on a table by a damaged suite; a case may also damage the table."""
    subject = fuzzed.subject(case.subject)
    rng = rng_of(case)
    whole = fuzzed.suite()
    suite: object = [whole[0], *rng.sample(whole[1:], 4)]
    (name,) = subject.mutated
    file = File(name, subject.files[name])
    for mutation in case.mutations:
        if mutation in CONF_DAMAGES:
            suite = CONF_DAMAGES[mutation](suite, rng)
        else:
            file = DAMAGES[mutation](file, rng)
    fuzzed.validated(subject, {file.name: file.content}, suite)
    return {}


def parts_by_new_of_damaged(case: Case) -> fuzzed.Canonical:
    subject = fuzzed.subject(case.subject)
    rng = rng_of(case)
    name = rng.choice(subject.mutated)
    file = damaged(File(name, subject.files[name]), case, rng)
    return fuzzed.new_parts(case.subject, with_file(subject, name, file), file.name)


@functools.cache
def clean_new_parts(name: str, is_sorted: bool) -> fuzzed.Canonical:
    subject = fuzzed.subject(name)
    parts = fuzzed.new_parts(name, subject.files, subject.mutated[0])
    return fuzzed.canonical(parts, subject.order, is_sorted)


def parts_by_new_of_rewritten(case: Case) -> fuzzed.Canonical:
    """The parts by the confs for a file that says the same; raises AssertionError if they differ.

    The guesses have to be the same then.
    """
    subject = fuzzed.subject(case.subject)
    rng = rng_of(case)
    name = rng.choice(subject.mutated)
    file = rewritten(File(name, subject.files[name]), case.mutations, form_of(subject, name), rng)
    parts = fuzzed.new_parts(case.subject, with_file(subject, name, file), file.name)
    is_sorted = is_reordered(case)
    fuzzed.assert_same(
        fuzzed.canonical(parts, subject.order, is_sorted), clean_new_parts(case.subject, is_sorted)
    )
    return parts


# --- confs --------------------------------------------------------------------------------------

MODELS = list(listed.MODELS)


def parts_by_damaged_columns(case: Case) -> fuzzed.Canonical:
    """The parts of clean files by a damaged block `columns`, if it is not refused."""
    subject = fuzzed.subject(case.subject)
    rng = rng_of(case)
    block = fuzzed.conf_of(case.subject)
    for name in case.mutations:
        block = CONF_DAMAGES[name](block, rng)
    columns = fuzzed.columns_of(case.subject, block)
    return fuzzed.prepared_parts(subject._replace(columns=columns), subject.files)


@contextmanager
def changed_conf(file: str, content: bytes) -> Iterator[None]:
    """A file of the conf in the working directory has another content."""
    before = Path(file).read_bytes()
    Path(file).write_bytes(content)
    try:
        yield
    finally:
        Path(file).write_bytes(before)


def confs(model: str) -> dict[str, object]:
    """What the confs of a model and of its data set say."""
    line = config.params(shelf=True).models[model]
    dataset = config.dataset(line.dataset, shelf=True)
    return {"model": config.model(model, shelf=True), "dataset": dataset}


def damaged_conf(case: Case, files: list[str]) -> tuple[str, bytes]:
    """One of the files of the conf, and its damaged content."""
    rng = rng_of(case)
    file = rng.choice(files)
    text = fuzzed_confs.text_of(file)
    for name in case.mutations:
        if name in BYTE_DAMAGES:
            text = BYTE_DAMAGES[name](File(file, text), rng).content
        else:
            text = damaged_yaml(text, name, rng)
    return file, text


def checked_damaged_conf(case: Case) -> fuzzed.Canonical:
    files = fuzzed_confs.conf_files(case.subject)
    with changed_conf(*damaged_conf(case, files)):
        check.check_named("model", case.subject)
    return {}


def stages_by_damaged_conf(case: Case) -> fuzzed.Canonical:
    """The stages up to the first steps of a training, in a process of their own."""
    file, text = damaged_conf(case, fuzzed_confs.stage_files(case.subject))
    budget = rng_of(case).choice(["smoke", "standard", "full"])
    fuzzed_confs.prepared(listed.MODELS[case.subject]["dataset"])
    with changed_conf(file, text):
        line = fuzzed_confs.in_child(
            functools.partial(fuzzed_confs.run_stages, case.subject, file, budget),
            2 * SECONDS,
            PATIENCE * SECONDS,
        )
    if line:
        raise SextantError(line)
    return {}


def damaged_yaml(text: bytes, name: str, rng: random.Random) -> bytes:
    try:
        conf = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # by a damage before this one
        return text
    damaged = CONF_DAMAGES[name](conf, rng)
    return yaml.safe_dump(damaged, sort_keys=False, allow_unicode=True).encode()


@functools.cache
def clean_confs(model: str) -> dict[str, object]:
    with chdir(ROOT):
        return confs(model)


def checked_rewritten_conf(case: Case) -> fuzzed.Canonical:
    """A conf that says the same; raises AssertionError if it is read as another."""
    rng = rng_of(case)
    file = rng.choice(fuzzed_confs.conf_files(case.subject))
    text = (ROOT / file).read_text()
    for name, rewrite in HARMLESS_IN_CONF.items():
        if name in case.mutations:
            text = rewrite(text, rng)
    with changed_conf(file, text.encode()):
        assert confs(case.subject) == clean_confs(case.subject)
    return {}


# --- command lines ------------------------------------------------------------------------------


def outcome_of_damaged_line(case: Case) -> fuzzed.Canonical:
    """What a damaged command line does in a process of its own."""
    rng = rng_of(case)
    line = [case.subject, *fuzzed_confs.LINES[case.subject]]
    for name in case.mutations:
        line = LINE_DAMAGES[name](line, rng) if line else line
    rows = Path("rows.csv")
    if not rows.exists():
        rows.write_bytes(fuzzed.subject("tabular").files["animals.csv"])
        store.client()  # creates the database, in seconds
    refusal = fuzzed_confs.in_child(
        functools.partial(fuzzed_confs.run_line, line), SECONDS, PATIENCE * SECONDS
    )
    if refusal:
        raise SextantError(refusal)
    return {}


# --- cases --------------------------------------------------------------------------------------


class Sort(NamedTuple):
    """A sort of mutations: what it tries, of which subjects, with which mutations.

    share: of COUNT.
    """

    attempt: Callable[[Case], fuzzed.Canonical]
    share: float
    subjects: list[str]
    mutations: Callable[[str], list[str]]
    may_refuse: bool = True


def of_files(name: str) -> list[str]:
    return list(DAMAGES)


def of_frames(name: str) -> list[str]:
    return ["odd_json", "json_shapes"]


def of_columns(name: str) -> list[str]:
    return list(CONF_DAMAGES)


def of_lines(name: str) -> list[str]:
    return list(LINE_DAMAGES)


def of_stages(name: str) -> list[str]:
    """Damages that often leave a conf that is accepted."""
    return ["delete_key", "odd_value", "scaled_number", "huge_number", "other_place"]


def of_confs(name: str) -> list[str]:
    return [*CONF_DAMAGES, *BYTE_DAMAGES]


def harmless_in_raw(name: str) -> list[str]:
    if fuzzed.subject(name).renames:
        return [*HARMLESS, *RENAMING]
    return list(HARMLESS)


def harmless_in_questions(name: str) -> list[str]:
    return [*HARMLESS, *RENAMING, *TYPING]


def of_suites(name: str) -> list[str]:
    # Twice as many damages of suites as of the table.
    return [*(2 * (len(DAMAGES) // len(CONF_DAMAGES)) * list(CONF_DAMAGES)), *DAMAGES]


def harmless_for_new(name: str) -> list[str]:
    # A column more is a feature more.
    names = [mutation for mutation in HARMLESS if mutation != "with_surplus_column"]
    return [*names, *RENAMING] if fuzzed.subject(name).renames else names


def harmless_in_confs(name: str) -> list[str]:
    return list(HARMLESS_IN_CONF)


ALL = list(fuzzed.SUBJECTS)
FRAMES = [
    *("tabular", "headerless", "amounts", "series", "ratings", "rated", "pixels", "text"),
    *("mapped", "hybrid", "atlas", "states", "week"),
]
DATA = list(fuzzed.NEW)  # subjects that differ in their data
SORTS = {
    "raw": Sort(parts_of_damaged, 0.25, DATA, of_files),
    "question": Sort(answers_to_damaged, 0.25, ALL, of_files),
    "frame": Sort(answers_to_damaged_frame, 0.1, FRAMES, of_frames),
    "columns": Sort(parts_by_damaged_columns, 0.15, DATA, of_columns),
    "conf": Sort(checked_damaged_conf, 0.1, MODELS, of_confs),
    "stages": Sort(stages_by_damaged_conf, 0.1, MODELS, of_stages),
    "line": Sort(outcome_of_damaged_line, 0.05, list(fuzzed_confs.LINES), of_lines),
    "same_raw": Sort(parts_of_rewritten, 0.1, FORMED, harmless_in_raw, False),
    "same_question": Sort(answers_to_rewritten, 0.1, FORMED, harmless_in_questions, False),
    "same_conf": Sort(checked_rewritten_conf, 0.05, MODELS, harmless_in_confs, False),
    "suite": Sort(report_by_damaged_suite, 0.06, ["tabular"], of_suites),
    "new": Sort(parts_by_new_of_damaged, 0.12, DATA, of_files),
    "same_new": Sort(parts_by_new_of_rewritten, 0.06, FORMED, harmless_for_new, False),
}


STATUS = Path("/proc/self/status")  # of Linux


def reset_peak() -> None:
    """`peak` counts from now on, so that one case of much memory hides none after it."""
    if STATUS.exists():
        Path("/proc/self/clear_refs").write_text("5")


def peak() -> int:
    """The most memory that this process has taken since `reset_peak`, in KiB.

    On other systems than Linux it is the most since its start.
    """
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    assert line is not None
    return int(line[1])


def attempted(case: Case) -> Outcome:
    """What became of a case: frames, or the line that refuses.

    Raises AssertionError if it took too long or too much memory, for too long a line, and for one
    where nothing is to refuse. Any other error is a fault.
    """
    sort = SORTS[case.sort]
    reset_peak()
    start, cpu_start, before = time.monotonic(), time.process_time(), peak()
    outcome: Outcome
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            outcome = sort.attempt(case)
    except SextantError as error:
        outcome = errors.one_line(error)
        assert sort.may_refuse, outcome
        assert errors.GENERIC not in outcome, outcome
        assert len(outcome) <= LONGEST, f"{len(outcome):,} characters: {outcome[:300]}"
    cpu_seconds = time.process_time() - cpu_start
    seconds = time.monotonic() - start
    assert cpu_seconds < SECONDS, f"{cpu_seconds:.0f} s of processor time"
    assert seconds < PATIENCE * SECONDS, f"{seconds:.0f} s"
    assert peak() <= max(before, MEMORY), f"{peak() / 2**20:.1f} GiB"
    return outcome


@st.composite
def cases(draw: st.DrawFn, sort: str) -> Case:
    subject = draw(st.sampled_from(SORTS[sort].subjects))
    names = st.sampled_from(SORTS[sort].mutations(subject))
    mutations = draw(st.lists(names, min_size=1, max_size=3))
    return Case(sort, subject, draw(st.integers(0, 2**20)), tuple(mutations))


# `make new` and Great Expectations take seconds, and test_new.py and test_validate.py try a few of
# their inputs.
LONG = ("suite", "new", "same_new", "stages", "line")
TRIED = [parsed(CASE).sort] if CASE else list(SORTS)


@pytest.mark.parametrize(
    "sort", [pytest.param(sort, marks=pytest.mark.slow if sort in LONG else []) for sort in TRIED]
)
def test_a_mutation_is_answered_or_refused_in_one_line(sort: str, workspace: Path) -> None:
    if CASE:
        print(attempted(parsed(CASE)))
        return

    @settings(
        max_examples=max(2, round(COUNT * SORTS[sort].share)),
        derandomize="SEXTANT_FUZZ" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases(sort))
    def attempt(case: Case) -> None:
        note(f'make fuzz CASE="{case}"')
        attempted(case)

    attempt()


def test_no_damaged_conf_ends_in_the_line_for_faults_of_the_program(workspace: Path) -> None:
    """One damage after the other, in one file after the other of each model."""
    damages = list(CONF_DAMAGES) + list(BYTE_DAMAGES)
    for number, model in enumerate(MODELS):
        case = Case("conf", model, number, (damages[number % len(damages)],))
        outcome = attempted(case)
        if isinstance(outcome, str):
            assert re.search(r"\.yaml|make ", outcome), f"{case} names no place: {outcome}"


def test_the_peak_of_memory_is_that_of_one_case() -> None:
    reset_peak()
    before = peak()
    block = bytearray(b"x" * 2**26)
    assert peak() - before > 2**15
    del block
    if STATUS.exists():
        reset_peak()
        assert peak() - before < 2**15


def test_a_mutated_file_stays_small() -> None:
    """The limit of memory is one on the package, so no mutation may make a file of that size."""
    longest = File("rows.csv", b"a,b\n" + b"9" * 300_000)
    for seed in range(5):
        content = DAMAGES["many_lines"](longest, random.Random(seed)).content
        assert len(content) < LARGEST + len(longest.content) + 5000
