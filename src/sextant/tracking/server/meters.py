"""What a service counts, in the text format of Prometheus.

With several workers, each writes what it counts to files in the folder PROMETHEUS_MULTIPROC_DIR,
and any of them answers with the sum.
"""

import os
from collections import Counter as Counts
from collections.abc import Sequence

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector

from .champions import Champion

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1000, 10_000)
# By kind of a remark, the part of its text that no other remark has; see kinds/tabular/encoder.py.
UNUSUAL = {
    "unseen_category": ", which training did not have",
    "out_of_range": ", far from the ",
    "missing": "is missing, and never was in training",
}
MOST_CLASSES = 200  # different predictions that are counted; further ones are "other"


class Meters:
    """The counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.requests = Counter(
            "sextant_requests",
            "Requests by path and status.",
            ["path", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "sextant_request_seconds",
            "Time from the head of a request to its response.",
            buckets=SECONDS,
            registry=registry,
        )
        self.batch_rows = Histogram(
            "sextant_batch_rows", "Rows answered together.", buckets=ROWS, registry=registry
        )
        self.rows = Counter("sextant_rows", "Rows answered.", registry=registry)
        self.answers = Counter(
            "sextant_answers", "Answers by predicted class.", ["prediction"], registry=registry
        )
        self.unusual = Counter(
            "sextant_unusual_rows",
            "Rows with a value that training did not have, by kind.",
            ["kind"],
            registry=registry,
        )
        self.swaps = Counter(
            "sextant_champion_swaps", "Champions that replaced another one.", registry=registry
        )
        self.failed_loads = Counter(
            "sextant_champion_failures",
            "Looks at the registry, and loads of a champion, that failed.",
            registry=registry,
        )
        self.failed_logs = Counter(
            "sextant_log_failures", "Files of answers that could not be written.", registry=registry
        )
        self.champion = Gauge(
            "sextant_champion",
            "1 for the champion that answers.",
            ["model", "version", "digest"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        for kind in UNUSUAL:
            self.unusual.labels(kind)
        self.classes: set[str] = set()
        if FOLDER not in os.environ:
            prometheus_client.ProcessCollector(registry=registry)

    def count_answers(self, predictions: Sequence[object], warnings: Sequence[object]) -> None:
        """Count rows, their predicted classes, and what is unusual about them.

        A predicted number is no class, and is not counted.
        """
        self.rows.inc(max(len(predictions), len(warnings)))
        classes = Counts(value for value in predictions if isinstance(value, str | bool | int))
        for value, count in classes.items():
            self.answers.labels(self._class(str(value))).inc(count)
        for text in warnings:
            if text:
                self._count_unusual(str(text))

    def _class(self, value: str) -> str:
        if value not in self.classes and len(self.classes) >= MOST_CLASSES:
            return "other"
        self.classes.add(value)
        return value

    def _count_unusual(self, text: str) -> None:
        for kind, part in UNUSUAL.items():
            if part in text:
                self.unusual.labels(kind).inc()

    def serve(self, champion: Champion, before: Champion | None = None) -> None:
        """Note which champion answers from now on."""
        if before is not None:
            self.swaps.inc()
            self.champion.labels(**before.label).set(0)
        self.champion.labels(**champion.label).set(1)

    def text(self) -> bytes:
        """All that was counted."""
        registry = self.registry
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return prometheus_client.generate_latest(registry)
