"""A process that has ended, or began later, is not the one that wrote something."""

import os
import subprocess
import sys
import time

from sextant.processes import is_alive


def test_only_a_process_that_ran_at_that_time_is_alive() -> None:
    now = time.time()
    assert is_alive(os.getpid(), now)
    assert not is_alive(os.getpid(), now - 10**6)  # the number belonged to another process


def test_a_process_has_ended_before_anybody_asks_for_its_exit_code() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.read()  # to the end, when the process ends
        end = time.monotonic() + 10
        while is_alive(process.pid, time.time()) and time.monotonic() < end:
            time.sleep(0.01)
        assert not is_alive(process.pid, time.time())  # a zombie
    assert not is_alive(process.pid, time.time())
