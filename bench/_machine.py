"""What stands beside every measurement: the machine, and what other programs did meanwhile."""

import os
import platform
import re
from pathlib import Path

import psutil


def machine() -> str:
    """One line: cores, processor, Python, load averages of 1, 5 and 15 minutes."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        model = re.search(r"model name\s*: (.*)", info.read_text())
        processor = model[1] if model else processor
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    python = platform.python_version()
    return f"{os.cpu_count()} cores, {processor}, Python {python}, load averages {load}"


def busy_time() -> float:
    """CPU seconds since the start of the machine that some program, or the host, has used."""
    times = psutil.cpu_times()
    # Linux counts the time of guests in `user` and `nice` as well.
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)
