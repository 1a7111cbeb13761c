"""make audit: what counts as a finding."""

import pytest

from sextant import audit
from sextant.errors import SextantError, UsageError

CLEAN = {"name": "numpy", "version": "2.4.6", "vulns": []}
ADVISORY = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.5"]}
FAULTY = {"name": "x", "version": "1", "vulns": [ADVISORY]}


def test_an_advisory_is_a_finding_unless_pyproject_accepts_it_by_any_of_its_names() -> None:
    assert audit.judge([CLEAN], {}).startswith("1 packages of the lock, 0 advisories")
    with pytest.raises(SextantError, match=r"x 1: PYSEC-1, repaired in 2\.5"):
        audit.judge([CLEAN, FAULTY], {"CVE-2": "another"})
    assert audit.judge([CLEAN, FAULTY], {"CVE-1": "not reachable"})


def test_packages_that_were_not_looked_up_are_a_failure() -> None:
    skipped = {"name": "y", "version": "1", "skip_reason": "not on PyPI"}
    with pytest.raises(SextantError, match="1 of 2 packages were not looked up: .* pypi.org"):
        audit.judge([CLEAN, skipped], {})


def test_other_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="audit takes no arguments"):
        audit.main(["--fix"])
