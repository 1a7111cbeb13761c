"""Drift: how far the distributions of new rows lie from those that a champion was trained on.

Both are summaries, see reference.py, so that a comparison is a function of two files of JSON. For
each quantity there are

- the population stability index (PSI) over the deciles of the reference, or over its levels: the
  sum of (new - old) ln(new / old) over the shares of the bins, of which missing values are one;
- the p-value of the test of Kolmogorov and Smirnov for numbers, or of the chi-square test for
  categories.

The index says how large a difference is, and the test whether so many rows show it by chance. A
quantity has drifted if the index reaches the threshold of the conf and p is below SIGNIFICANCE.
Source of index and thresholds: Siddiqi, "Credit Risk Scorecards", 2006.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from scipy.special import chdtrc, kolmogorov  # scipy.stats takes a second to import

if TYPE_CHECKING:
    from .config import Drift
    from .reference import Numbers, Reference, Summary

SIGNIFICANCE = 0.001  # a table of fifty columns has one below it by chance in twenty comparisons
BINS = 10
LEAST = 0.5  # rows in an empty bin, whose logarithm would be infinite
SMALLEST_EXPECTED = 5.0  # rows in a cell of the chi-square test; smaller ones are put together
SHOWN = 3  # quantities in a sentence, levels in a message
RECORDED = 8  # quantities in a decision

Severity = Literal["none", "warning", "critical"]
ORDER: Mapping[Severity, int] = {"critical": 0, "warning": 1, "none": 2}


@dataclass(frozen=True)
class Finding:
    """The comparison of one quantity; pairs are those of the reference and of the new rows."""

    name: str
    severity: Severity
    psi: float
    test: str
    statistic: float
    p: float
    rows: tuple[int, int]
    missing: tuple[float, float]
    new: list[str]
    lost: list[str]

    def sentence(self) -> str:
        """The quantity with its figures, for a reason."""
        text = f"`{self.name}` (PSI {self.psi:.2f}, {self.test} {self.statistic:.4g}"
        for label, levels in (("new", self.new), ("lost", self.lost)):
            if levels:
                further = ", …" if len(levels) > SHOWN else ""
                text += f", {label}: {', '.join(levels[:SHOWN])}{further}"
        return f"{text})"

    def record(self) -> dict[str, object]:
        """The comparison as JSON."""
        return {
            "severity": self.severity,
            "psi": _rounded(self.psi),
            "test": self.test,
            "statistic": _rounded(self.statistic),
            "p": _rounded(self.p),
            "rows": list(self.rows),
            "missing": [_rounded(share) for share in self.missing],
            "new": self.new,
            "lost": self.lost,
        }


@dataclass(frozen=True)
class Report:
    """The comparisons of all quantities, the largest drift first."""

    findings: list[Finding]
    absent: list[str]  # quantities that only one of the two has

    @property
    def severity(self) -> Severity:
        """The gravest severity of a quantity."""
        return self.findings[0].severity if self.findings else "none"

    def of(self, severity: Severity) -> list[Finding]:
        """The quantities of a severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def sentence(self) -> str:
        """What has drifted, for a reason; empty if nothing has."""
        texts = []
        for severity in ("critical", "warning"):
            drifted = self.of(severity)
            if drifted:
                names = ", ".join(finding.sentence() for finding in drifted[:SHOWN])
                more = f" and {len(drifted) - SHOWN} more" if len(drifted) > SHOWN else ""
                texts.append(f"{severity} in {names}{more}")
        return f"drift: {'; '.join(texts)}" if texts else ""

    def record(self) -> dict[str, object]:
        """What a decision records: the severity, and the quantities that have drifted most."""
        drifted = [finding for finding in self.findings if finding.severity != "none"]
        record: dict[str, object] = {"severity": self.severity, "compared": len(self.findings)}
        record["drifted"] = len(drifted)
        record["quantities"] = {part.name: part.record() for part in drifted[:RECORDED]}
        if self.absent:
            record["absent"] = self.absent[:RECORDED]
        return record

    def table(self) -> dict[str, dict[str, object]]:
        """All comparisons as JSON."""
        return {finding.name: finding.record() for finding in self.findings}


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


# --- comparison ---------------------------------------------------------------------------------


def compare(reference: "Reference", new: "Reference", thresholds: "Drift") -> Report:
    """Compare the summaries of new rows with those of the reference."""
    names = [name for name in reference if name not in thresholds.ignored]
    findings = []
    absent = [name for name in new if name not in reference and name not in thresholds.ignored]
    for name in names:
        if name in new and new[name]["rows"]:
            findings.append(_finding(name, reference[name], new[name], thresholds))
        else:
            absent.append(name)
    findings.sort(key=lambda finding: (ORDER[finding.severity], -finding.psi))
    return Report(findings, absent)


def _finding(name: str, old: "Summary", new: "Summary", thresholds: "Drift") -> Finding:
    new_levels: list[str] = []
    lost_levels: list[str] = []
    if "points" in old and "points" in new:
        old_numbers, new_numbers = cast("Numbers", old), cast("Numbers", new)
        old_bins, new_bins = _bins_of_numbers(old_numbers, new_numbers)
        test = "KS"
        statistic, p = _kolmogorov_smirnov(old_numbers, new_numbers)
        # The test looks at the numbers alone; the share of missing ones is tested beside it.
        _, p_missing = _chi_square(_by_presence(old), _by_presence(new))
        p = min(p, p_missing)
    else:
        old_counts, new_counts = _counts(old), _counts(new)
        new_levels = _beyond(new_counts, old_counts, old)
        lost_levels = _beyond(old_counts, new_counts, new)
        old_bins, new_bins = _bins_of_categories(old, new)
        test = "chi-square"
        statistic, p = _chi_square(old_bins, new_bins)
    psi = _stability_index(old_bins, new_bins)
    return Finding(
        name=name,
        severity=_severity(psi, p, thresholds),
        psi=psi,
        test=test,
        statistic=statistic,
        p=p,
        rows=(old["rows"], new["rows"]),
        missing=(_missing_share(old), _missing_share(new)),
        new=new_levels,
        lost=lost_levels,
    )


def _severity(psi: float, p: float, thresholds: "Drift") -> Severity:
    if not p < SIGNIFICANCE:
        return "none"
    if thresholds.critical is not None and psi >= thresholds.critical:
        return "critical"
    if thresholds.warning is not None and psi >= thresholds.warning:
        return "warning"
    return "none"


def _missing_share(part: "Summary") -> float:
    return part["missing"] / part["rows"] if part["rows"] else 0.0


def _by_presence(part: "Summary") -> np.ndarray:
    return np.array([part["rows"] - part["missing"], part["missing"]], np.float64)


def _stability_index(old: np.ndarray, new: np.ndarray) -> float:
    """The index of two counts by bin; bins that both lack are left out."""
    is_used = (old + new) > 0
    old_shares = np.maximum(old[is_used], LEAST) / max(old.sum(), 1.0)
    new_shares = np.maximum(new[is_used], LEAST) / max(new.sum(), 1.0)
    return float(((new_shares - old_shares) * np.log(new_shares / old_shares)).sum())


def _chi_square(old: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    """The statistic and the p-value that two counts by bin are of one distribution."""
    total = old + new
    if not old.sum() or not new.sum():
        return 0.0, 1.0
    least = min(old.sum(), new.sum()) / total.sum() * total
    is_small = least < SMALLEST_EXPECTED
    cells = []
    for counts in (old, new):
        cells.append(np.append(counts[~is_small], counts[is_small].sum()))
    together = cells[0] + cells[1]
    is_used = together > 0
    statistic = 0.0
    for counts in cells:
        expected = together * counts.sum() / together.sum()
        statistic += float((((counts - expected) ** 2)[is_used] / expected[is_used]).sum())
    freedom = int(is_used.sum()) - 1
    return statistic, float(chdtrc(freedom, statistic)) if freedom > 0 else 1.0


# --- categories ---------------------------------------------------------------------------------


def _counts(part: "Summary") -> dict[str, float]:
    """Rows by level; of a number, whose column is a category on the other side, by point."""
    if "points" in part:
        numeric = cast("Numbers", part)
        pairs = zip(numeric["points"], np.diff([0, *numeric["upto"]]), strict=True)
        return {f"{point:.12g}": float(count) for point, count in pairs}
    return {level: float(count) for level, count in part["counts"].items()}


def _bins_of_categories(old: "Summary", new: "Summary") -> tuple[np.ndarray, np.ndarray]:
    """The rows of each level, and the missing ones.

    Where a summary does not list all of its levels, those that only one lists are one bin.
    """
    old_counts, new_counts = _counts(old), _counts(new)
    unlisted = _unlisted(old), _unlisted(new)
    levels = list(dict.fromkeys([*old_counts, *new_counts]))
    if any(unlisted):
        levels = [level for level in old_counts if level in new_counts]
    bins = []
    for part, counts in ((old, old_counts), (new, new_counts)):
        listed = [counts.get(level, 0.0) for level in levels]
        present = part["rows"] - part["missing"]
        bins.append(np.array([*listed, present - sum(listed), part["missing"]], np.float64))
    return bins[0], bins[1]


def _unlisted(part: "Summary") -> int:
    """The rows of levels that a summary does not list."""
    return 0 if "points" in part else part["other"]


def _beyond(levels: Iterable[str], other: Mapping[str, float], summary: "Summary") -> list[str]:
    """The levels that `other` lacks; none if its summary does not list all of them."""
    if _unlisted(summary):
        return []
    return [level for level in levels if level not in other]


# --- numbers ------------------------------------------------------------------------------------


def _shares_upto(part: "Numbers", x: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
    """The share of the numbers that are below each x, or up to it (`right`).

    Between two points the distribution is linear; see reference.POINTS.
    """
    points = np.array(part["points"])
    below = np.array(part["below"], np.float64)
    upto = np.array(part["upto"], np.float64)
    # Each point twice: the distribution jumps there from `below` to `upto`.
    steps = np.stack([below, upto], axis=1).ravel()
    place = np.searchsorted(points, x, side="left")
    is_point = (place < len(points)) & (points[np.minimum(place, len(points) - 1)] == x)
    at_points = np.where(side == "right", upto, below)[np.minimum(place, len(points) - 1)]
    last, following = np.maximum(place - 1, 0), np.minimum(place, len(points) - 1)
    span = points[following] - points[last]
    share = np.divide(x - points[last], span, out=np.zeros_like(x), where=span > 0)
    between = upto[last] + share * (below[following] - upto[last])
    between = np.where(place == 0, 0.0, np.where(place == len(points), steps[-1], between))
    return np.where(is_point, at_points, between) / steps[-1]


def _kolmogorov_smirnov(old: "Numbers", new: "Numbers") -> tuple[float, float]:
    """The largest distance of the two distributions, and its asymptotic p-value."""
    rows = [part["rows"] - part["missing"] for part in (old, new)]
    if not all(rows):
        return 0.0, 1.0
    x = np.union1d(old["points"], new["points"])
    distance = 0.0
    for side in cast("Sequence[Literal['left', 'right']]", ("left", "right")):
        gaps = np.abs(_shares_upto(old, x, side) - _shares_upto(new, x, side))
        distance = max(distance, float(gaps.max()))
    size = rows[0] * rows[1] / (rows[0] + rows[1])
    return distance, float(kolmogorov(math.sqrt(size) * distance))


def _bins_of_numbers(old: "Numbers", new: "Numbers") -> tuple[np.ndarray, np.ndarray]:
    """The rows in each bin between deciles of the reference, and the missing ones."""
    edges = np.array([])
    if old["points"]:
        wanted = np.arange(1, BINS) / BINS * old["upto"][-1]
        places = np.searchsorted(old["upto"], wanted)
        edges = np.unique(np.array(old["points"])[places])
        edges = edges[edges < old["points"][-1]]
    bins = []
    for part in (old, new):
        present = part["rows"] - part["missing"]
        shares = np.array([0.0, 1.0])
        if present and len(edges):
            shares = np.concatenate([[0.0], _shares_upto(part, edges, "right"), [1.0]])
        counts = np.diff(shares) * present
        if len(counts) <= len(edges):  # nothing but missing values
            counts = np.zeros(len(edges) + 1)
        bins.append(np.append(counts, part["missing"]))
    return bins[0], bins[1]
