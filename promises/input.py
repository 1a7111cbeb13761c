"""Bad input is one clear line: the mutated files, confs and questions of `make fuzz`, counted

    python promises/input.py [n=200]

Unlike in the other rows, `n` is the number of cases, as in `make fuzz CASES=n`. A test that fails
has tried several, and counts as one that failed.
"""

import re
import subprocess
import sys
from pathlib import Path

import _trials
from _clones import ROOT

from sextant.errors import run

FAILED = re.compile(r"(\d+) failed")
CASES = 200  # without `n`


def main(argv: list[str]) -> int:
    chosen = _trials.options(argv, CASES, "case", ("fuzz",))
    command = [str(Path(sys.executable)), "-m", "pytest", "-q", "-n", "0", "tests/test_fuzz.py"]
    process = _trials.start(ROOT, command, subprocess.PIPE, {"SEXTANT_FUZZ": str(chosen.n)})
    output, _ = process.communicate()
    failed = sum(int(number) for number in FAILED.findall(output.splitlines()[-1]))
    if process.returncode:
        print(output)
        failed = max(1, failed)
    passed, tried = _trials.count("input", "fuzz", chosen.n - failed, chosen.n)
    print(f"input: {chosen.n - failed} of {chosen.n} passed; {passed} of {tried} since the totals"
          " began", file=sys.stderr)  # fmt: skip
    return int(failed > 0)


if __name__ == "__main__":
    run(main)
