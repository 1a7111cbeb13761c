"""Run the planned stages of `dvc repro` side by side, each in a thread of this process.

DVC runs one stage after the other. Here its code still runs in one thread at a time, the one that
holds the lock of the repository; only the commands of the stages, which DVC runs while it has
released that lock, run at the same time. So dvc.lock, the cache and the run cache are DVC's own
work, the pipeline is read once, and a stage that did not change costs what it costs DVC.

`install` replaces four functions of DVC: the loop over the planned stages, the start of a command,
the reset of a repository, and the writing of dvc.lock.
"""

import functools
import os
import queue
import re
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from .. import files
from .slots import Need, Slots

if TYPE_CHECKING:
    import networkx as nx  # type: ignore[import-untyped]
    from dvc.dvcfile import Lockfile
    from dvc.lock import LockBase
    from dvc.repo import Repo
    from dvc.stage import Stage

GRACE = 10.0  # seconds for the commands to end after an interruption, before they are killed
WAKE_UP = 0.5  # seconds until a signal is looked for that did not wake the main thread
DRAINED = 0.2  # seconds without output after which a command that has ended has nothing more to say
# dvc.lock, as DVC writes it: nothing but stages, and no empty lines.
LOCK = re.compile(r"schema: '2\.0'\nstages:\n( .*\n)*")
ENTRY = re.compile(r"^  (\S.*):\n(?:   .*\n)*", re.MULTILINE)
UNQUOTED = re.compile(r"[\w@.-]+")  # a name that YAML needs no quotes for
EMPTY_LOCK = "schema: '2.0'\nstages:\n"
# Reads `+ GROUP` and `- GROUP`. Its input ends when this process does, however it dies; then it
# kills the process groups that are left.
GUARD = """
groups=' '
while read -r sign group; do
  case $sign in
    +) groups="$groups$group " ;;
    -) groups="${groups%% $group *} ${groups#* $group }" ;;
  esac
done
for group in $groups; do
  kill -KILL "-$group" 2>/dev/null
done
"""


class Interrupted(Exception):
    """A stage did not start, because the run has been interrupted."""


# --- commands -----------------------------------------------------------------------------------


class Guard:
    """Kills the process groups that it watches if this process is killed.

    The commands of stages are no children of the shell or the make that started this process, so a
    kill of their group would let them go on and write beside those of the next run.
    """

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,  # a kill of our group must not reach it
        )

    def watch(self, group: int) -> None:
        self._send(f"+ {group}")

    def leave(self, group: int) -> None:
        self._send(f"- {group}")

    def _send(self, line: str) -> None:
        assert self.process.stdin
        try:
            print(line, file=self.process.stdin, flush=True)
        except BrokenPipeError:  # the guard was killed
            pass

    def end(self) -> None:
        """End the guard, which kills what it still watches."""
        self.process.communicate()


class Commands:
    """The shell commands of the running stages, each in a process group of its own.

    Where several stages can run at the same time, every line of their output begins with the name
    of the stage; else the command writes to our own streams, so that it can draw progress bars.
    """

    def __init__(self, prefixed: bool, guard: Guard) -> None:
        self.prefixed = prefixed
        self.guard = guard
        self.lock = threading.Lock()
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.stopped = False

    def run(self, executable: str, command: str, **options: Any) -> None:
        """Run one command of a stage as `dvc.stage.run._run` does.

        Raises StageCmdFailedError if its exit code is not 0.
        """
        from dvc.stage.exceptions import StageCmdFailedError
        from dvc.stage.run import _make_cmd

        pipe = subprocess.PIPE if self.prefixed else None
        with self.lock:
            if self.stopped:
                raise Interrupted
            process: subprocess.Popen[bytes] = subprocess.Popen(
                _make_cmd(executable, command),
                stdin=subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
                process_group=0,
                **options,
            )
            self.guard.watch(process.pid)
            self.processes.add(process)
        try:
            if self.prefixed:
                copy_lines(process, f"{options['env']['DVC_STAGE']} | ")
            code = process.wait()
        except BaseException:
            _signal_group(process, signal.SIGKILL)
            raise
        finally:
            with self.lock:
                self.guard.leave(process.pid)
                self.processes.remove(process)
        if code != 0:
            # If the shell alone was killed, the program that it ran must not go on by itself.
            _signal_group(process, signal.SIGKILL)
            raise StageCmdFailedError(command, code)

    def stop(self, number: int) -> None:
        """Send a signal to the running commands and let no other one start."""
        with self.lock:
            self.stopped = True
            for process in self.processes:
                _signal_group(process, number)


def _signal_group(process: "subprocess.Popen[bytes]", number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def copy_lines(process: "subprocess.Popen[bytes]", prefix: str) -> None:
    """Copy the output of a process to our own streams, whole lines, each with a prefix.

    It ends with the output, or with the process: a program that it leaves behind in the background
    may keep the pipes open.
    """
    assert process.stdout is not None and process.stderr is not None
    assert sys.__stdout__ is not None and sys.__stderr__ is not None
    start = prefix.encode()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, sys.__stdout__.buffer)
        selector.register(process.stderr, selectors.EVENT_READ, sys.__stderr__.buffer)
        pending: dict[int, bytes] = {}
        while selector.get_map():
            ready = selector.select(DRAINED)
            if not ready and process.poll() is not None:
                break
            for key, _ in ready:
                block = os.read(key.fd, 65536)
                *lines, rest = (pending.pop(key.fd, b"") + block).split(b"\n")
                if block:
                    pending[key.fd] = rest
                else:
                    selector.unregister(key.fileobj)
                    if rest:
                        lines.append(rest)
                _write_lines(key.data, start, lines)
    process.stdout.close()
    process.stderr.close()


def _write_lines(stream: IO[bytes], prefix: bytes, lines: Iterable[bytes]) -> None:
    """Write whole lines in one call, so that those of another thread do not come between."""
    text = b"".join(prefix + line + b"\n" for line in lines)
    stream.write(text)
    stream.flush()


# --- the lock of the repository -----------------------------------------------------------------


class ThreadedLock:
    """DVC's lock of a repository, for threads: the one that has it is the one that runs DVC's code.

    Another DVC process may take the lock while the commands run, for `dvc status`, for example.
    Then the stages wait, since a stage that gave up would lose what its command has done.
    """

    def __init__(self, lock: "LockBase") -> None:
        self.inner = lock
        self.mutex = threading.RLock()

    def lock(self) -> None:
        from dvc.lock import LockError

        self.mutex.acquire()
        while True:
            try:
                self.inner.lock()
                return
            except LockError:  # after three seconds
                continue

    def unlock(self) -> None:
        self.inner.unlock()
        self.mutex.release()

    @property
    def is_locked(self) -> bool:
        locked: bool = self.inner.is_locked
        return locked

    def __enter__(self) -> None:
        self.lock()

    def __exit__(self, *error: object) -> None:
        self.unlock()


# --- stages -------------------------------------------------------------------------------------


class Run:
    """One run of planned stages; `graph` has an edge from each stage to those that it needs."""

    def __init__(
        self,
        stages: Sequence["Stage"],
        graph: "nx.DiGraph[Stage]",
        slots: Slots,
        needs: Mapping["Stage", Need],
        commands: Commands,
        reproduce: Callable[..., "Stage | None"],
    ) -> None:
        self.stages = stages
        self.order = list(graph)  # that of dvc.yaml
        self.graph = graph.subgraph(stages)
        self.slots = slots
        self.needs = needs
        self.commands = commands
        self.reproduce = reproduce
        self.repo: Repo = stages[0].repo
        self.lock = ThreadedLock(self.repo.lock)
        self.ended: queue.SimpleQueue[Stage] = queue.SimpleQueue()
        self.threads: list[threading.Thread] = []
        self.reproduced: set[Stage] = set()
        self.failures: dict[Stage, Exception] = {}
        self.skipped: dict[Stage, set[Stage]] = {}  # by failed stage those that need it

    def run(self) -> list["Stage"]:
        """Run the stages; return those that ran or were restored, in the order of the plan.

        A failed stage stops those that need it and no other. Raises ReproductionError at the end,
        which names all that failed.
        """
        from dvc.repo.reproduce import _raise_error

        reset = self.repo._reset

        def reset_alone() -> None:
            """DVC resets a repository that it has already unlocked."""
            with self.lock.mutex:
                reset()

        self.repo.lock.unlock()
        self.repo.lock = self.lock
        self.repo._reset = reset_alone
        try:
            self._run_all()
        except KeyboardInterrupt:
            self._stop(signal.SIGINT)
            raise
        except BaseException:
            self._stop(signal.SIGTERM)
            raise
        finally:
            self.lock.lock()
            self.repo.lock = self.lock.inner
            self.repo._reset = reset
            # Also if no stage ran: a kill may have come after the last one and before this.
            sort_lockfiles(self.order)
        if self.failures:
            cause = next(iter(self.failures.values())) if len(self.failures) == 1 else None
            _raise_error(cause, *[stage for stage in self.stages if stage in self.failures])
        return [stage for stage in self.stages if stage in self.reproduced]

    def _run_all(self) -> None:
        """Start each stage as soon as those that it needs have ended.

        With one slot they start one by one, in DVC's order.
        """
        waiting = dict.fromkeys(self.stages)
        unfinished = set(self.stages)
        running = 0
        while True:
            for stage in list(waiting):
                if running and self.slots.count == 1:
                    break
                if unfinished.isdisjoint(self.graph.successors(stage)):
                    del waiting[stage]
                    self._start(stage)
                    running += 1
            if not running:
                return
            stage = self._next_ended()
            running -= 1
            unfinished.remove(stage)
            for dependent in self.skipped.pop(stage, ()):
                waiting.pop(dependent, None)
                unfinished.discard(dependent)

    def _next_ended(self) -> "Stage":
        """Wait for a stage to end.

        The timeout is for signals: one that the kernel gives to another thread does not wake this
        one, the only one that runs Python's handlers.
        """
        while True:
            try:
                return self.ended.get(timeout=WAKE_UP)
            except queue.Empty:
                continue

    def _start(self, stage: "Stage") -> None:
        self.slots.register(self.needs[stage])
        thread = threading.Thread(
            target=self._reproduce, args=(stage,), name=stage.addressing, daemon=True
        )
        self.threads.append(thread)
        thread.start()

    def _reproduce(self, stage: "Stage") -> None:
        """Let DVC check one stage, run it if it has to, and write dvc.lock; it runs in a thread."""
        from dvc.repo.reproduce import handle_error

        run = stage.run

        def run_in_turn(**arguments: object) -> None:
            """DVC calls this if the stage has to run or can be restored from the run cache."""
            self.lock.unlock()
            try:
                entered = self.slots.enter(self.needs[stage])
            finally:
                self.lock.lock()
            if not entered:
                raise Interrupted
            run(**arguments)

        stage.run = run_in_turn
        try:
            with self.lock:
                if self.reproduce(stage, upstream=list(self.graph.successors(stage))):
                    self.reproduced.add(stage)
        except Interrupted:
            pass
        except Exception as error:
            if not self.slots.closed:
                self.failures[stage] = error
                self.skipped[stage] = handle_error(self.graph, "keep-going", error, stage)
        finally:
            self.slots.leave(self.needs[stage])
            self.ended.put(stage)

    def _stop(self, number: int) -> None:
        """End all commands and wait for the threads, which release DVC's locks."""
        self.slots.close()
        deadline = time.monotonic() + GRACE
        try:
            self.commands.stop(number)
            for thread in self.threads:
                thread.join(max(0.0, deadline - time.monotonic()))
        finally:  # also after a second Ctrl-C
            self.commands.stop(signal.SIGKILL)
            for thread in self.threads:
                thread.join()


def with_priorities(
    stages: Sequence["Stage"],
    graph: "nx.DiGraph[Stage]",
    need: Callable[["Stage"], Need],
    jobs: int,
) -> dict["Stage", Need]:
    """By stage its need: at most all slots, and as priority the seconds of it and what follows.

    So the longest chain goes first. Equal ones keep the order of the plan, in which a stage follows
    what it needs.
    """
    needs: dict[Stage, Need] = {}
    for stage in reversed(stages):
        stage_need = need(stage)
        after = [needs[other].priority for other in graph.predecessors(stage) if other in needs]
        priority = stage_need.priority + max(after, default=0.0)
        needs[stage] = Need(min(stage_need.slots, jobs), stage_need.memory, priority)
    return needs


def is_chain(stages: Sequence["Stage"], graph: "nx.DiGraph[Stage]") -> bool:
    """Return whether each stage needs the one before it, so that no two can run side by side."""
    pairs = zip(stages[1:], stages, strict=False)
    return all(graph.has_edge(stage, previous) for stage, previous in pairs)


# --- dvc.lock -----------------------------------------------------------------------------------


def write_entries(lockfile: "Lockfile", stages: list["Stage"], **arguments: Any) -> None:
    """Write the entries of stages into dvc.lock, and leave the rest of its text as it is.

    DVC parses and writes the whole file for each stage, which takes 0.8 s for a pipeline of 34.
    """
    from dvc.dvcfile import logger as dvc_logger
    from dvc.stage.serialize import to_lockfile
    from dvc.utils.serialize import dumps_yaml

    path = Path(lockfile.path)
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    text = before or EMPTY_LOCK
    for stage in stages:
        entry = dumps_yaml({"stages": to_lockfile(stage, **arguments)}).removeprefix("stages:\n")
        name = entry.partition("\n")[0]
        old = re.search(rf"^{re.escape(name)}\n(   .*\n)*", text, re.MULTILINE)
        if old is None:
            text += entry
        else:
            text = text[: old.start()] + entry + text[old.end() :]
    if text != before:
        dvc_logger.info("Updating lock file '%s'", lockfile.relpath)
        _write(path, text)
        lockfile.repo.scm_context.track_file(lockfile.relpath)


def _write(path: Path, text: str) -> None:
    """Write a dvc.lock whole: of half of one, DVC would say that it is corrupted."""
    with files.written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def sort_lockfiles(stages: Iterable["Stage"]) -> None:
    """Write each dvc.lock as DVC does, with its entries in the order of dvc.yaml: that of `stages`.

    DVC appends a new stage when it ends. Stages that dvc.yaml no longer has come last.
    """
    from dvc.stage import PipelineStage
    from dvc.utils.serialize import modify_yaml

    names: dict[str, list[str]] = {}
    for stage in stages:
        if isinstance(stage, PipelineStage):
            names.setdefault(stage.dvcfile._lockfile.path, []).append(stage.name)
    for lockfile, order in names.items():
        path = Path(lockfile)
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        ordered = _sorted(text, order)
        if ordered is None:
            with modify_yaml(lockfile) as content:
                entries = content["stages"]
                for name in _in_order(entries, order):
                    entries[name] = entries.pop(name)
        elif ordered != text:
            _write(path, ordered)


def _sorted(text: str, order: Sequence[str]) -> str | None:
    """The text of a dvc.lock with its entries in an order; None if the text is unusual.

    Parsing and writing it takes over a second for a pipeline of 34 stages.
    """
    entries = {match[1]: match[0] for match in ENTRY.finditer(text)}
    head = text.partition("  ")[0]
    is_plain = LOCK.fullmatch(text) and text == head + "".join(entries.values())
    if not is_plain or not all(UNQUOTED.fullmatch(name) for name in entries):
        return None
    return head + "".join(entries[name] for name in _in_order(entries, order))


def _in_order(entries: Iterable[str], order: Sequence[str]) -> list[str]:
    """The names of entries: those of `order` first."""
    present = list(entries)
    first = [name for name in order if name in present]
    return first + [name for name in present if name not in order]


# --- hooks --------------------------------------------------------------------------------------


def install(
    jobs: int,
    free_memory: Callable[[], int],
    need: Callable[["Stage"], Need],
    plan: Callable[[Sequence["Stage"], bool], None],
) -> None:
    """Let the next `dvc repro` of this process run up to `jobs` stages side by side.

    `need` gives what a stage takes; its priority is how long it takes, in seconds. `plan` is called
    with the stages in DVC's order, and whether several of them can run at the same time.
    """
    import dvc.stage.run
    from dvc.dvcfile import Lockfile
    from dvc.repo import reproduce

    one_by_one = reproduce._reproduce
    dump_stages = Lockfile.dump_stages

    def side_by_side(
        stages: list["Stage"],
        graph: "nx.DiGraph[Stage] | None" = None,
        force: bool = False,
        repro_fn: Callable[..., "Stage | None"] = reproduce._reproduce_stage,
        **arguments: Any,
    ) -> list["Stage"]:
        """Take the place of DVC's loop over the stages of a plan."""
        several = jobs > 1 and graph is not None and not is_chain(stages, graph)
        plan(stages, several)
        unusual = arguments.get("interactive") or arguments.get("force_downstream")
        if graph is None or not stages or unusual:
            ordered: list[Stage] = one_by_one(stages, graph, force=force, **arguments)
            return ordered
        arguments = {**arguments, "force": force}
        arguments.pop("on_error", None)
        arguments.pop("force_downstream", None)
        guard = Guard()
        commands = Commands(several, guard)
        dvc.stage.run._run = commands.run
        needs = with_priorities(stages, graph, need, jobs)
        reproduce_stage = functools.partial(repro_fn, **arguments)
        slots = Slots(jobs, free_memory)
        try:
            return Run(stages, graph, slots, needs, commands, reproduce_stage).run()
        finally:
            guard.end()

    def write_lock(lockfile: "Lockfile", stages: list["Stage"], **arguments: Any) -> None:
        """Take the place of DVC's function where dvc.lock contains nothing unusual."""
        path = Path(lockfile.path)
        if not path.is_file() or LOCK.fullmatch(path.read_text(encoding="utf-8")):
            write_entries(lockfile, stages, **arguments)
        else:
            dump_stages(lockfile, stages, **arguments)

    reproduce._reproduce = side_by_side
    Lockfile.dump_stages = write_lock
