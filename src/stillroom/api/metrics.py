"""Requests counted, in Prometheus' text form.

Counting takes half a microsecond here and four in prometheus_client, which locks and writes
to a shared file each time: so numbers are gathered, and handed on once a second or when they
are asked for.

With several workers each keeps its numbers in a file that the others can read
(prometheus_client's multiprocess mode, switched on by `server` through
PROMETHEUS_MULTIPROC_DIR), so that any of them answers for all.
"""

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from fastapi import Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from stillroom.media.resource import QueueNumbers

_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)


class _HandingOn(Collector):
    """Registered first, so that whoever collects gets everything."""

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        hand_on()
        return ()


REGISTRY.register(_HandingOn())

_REQUESTS = Counter(
    "stillroom_requests", "Requests answered, by operation and status.", ("operation", "status")
)
_SECONDS = Histogram(
    "stillroom_request_seconds",
    "Time from the request's head to the answer's.",
    ("operation",),
    buckets=_BOUNDS,
)

_PICTURES = Counter(
    "stillroom_derived_images",
    "Smaller pictures: found (kept), decoded (made), not decodable (refused), in trouble (failed).",
    ("outcome",),
)

_MARKS = Gauge(
    "stillroom_media_marks",
    "Deletions that are due now or later.",
    multiprocess_mode="mostrecent",
)
_DUE = Gauge(
    "stillroom_media_due",
    "Deletions whose time has come.",
    multiprocess_mode="mostrecent",
)
_OLDEST_DUE = Gauge(
    "stillroom_media_oldest_due_seconds",
    "For how long the deletion that waits longest has been due.",
    multiprocess_mode="mostrecent",
)
_INTENTS = Gauge(
    "stillroom_media_intents",
    "Copies under way, or left by a crash.",
    multiprocess_mode="mostrecent",
)
_DEAD_LETTERS = Gauge(
    "stillroom_media_dead_letters",
    "Deletions that were given up.",
    multiprocess_mode="mostrecent",
)
_MEASURED = Gauge(
    "stillroom_media_measured_timestamp_seconds",
    "When the numbers of the media library were last read.",
    multiprocess_mode="mostrecent",
)

_counts: defaultdict[tuple[str, int, int | None], int] = defaultdict(int)
_sums: defaultdict[str, float] = defaultdict(float)


def count(operation: str, status: int, seconds: float | None = None) -> None:
    """Count one answer, and the time that it took if it reached an operation."""
    if seconds is None:
        _counts[operation, status, None] += 1
    else:
        _counts[operation, status, bisect_left(_BOUNDS, seconds)] += 1
        _sums[operation] += seconds


def hand_on() -> None:
    """Give what was gathered to prometheus_client, where others can see it."""
    # `observe` takes one time at a time; these are its two steps for many.
    for (operation, status, bucket), number in _counts.items():
        _REQUESTS.labels(operation, str(status)).inc(number)
        if bucket is not None:
            _SECONDS.labels(operation)._buckets[bucket].inc(number)  # noqa: SLF001  (see above)
    for operation, seconds in _sums.items():
        _SECONDS.labels(operation)._sum.inc(seconds)  # noqa: SLF001  (see above)
    for gathered in (_counts, _sums):
        gathered.clear()


def count_picture(outcome: str) -> None:
    """Count what became of one picture that was asked for, or waited for by several."""
    _PICTURES.labels(outcome).inc()


def report_queue(numbers: QueueNumbers) -> None:
    """Show what waits to be deleted, as it was read just now."""
    _MARKS.set(numbers.marks)
    _DUE.set(numbers.due)
    _OLDEST_DUE.set(numbers.oldest_due.total_seconds())
    _INTENTS.set(numbers.intents)
    _DEAD_LETTERS.set(numbers.dead_letters)
    _MEASURED.set_to_current_time()


async def metrics() -> Response:
    """All numbers of all workers; those of the others may be a second old."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        hand_on()
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library types it not
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
