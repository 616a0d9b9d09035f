"""Prometheus metrics: counters, gauges and histograms, flushed in batches once a second.

Counting a request takes half a microsecond here, but four in prometheus_client, where each call
locks and writes to a shared file. Values are therefore collected in this process, and flushed once
a second and before each scrape.

Several workers share their values through files (prometheus_client's multiprocess mode, which
`server` enables with PROMETHEUS_MULTIPROC_DIR).
"""

import contextlib
import os
import time
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Final, Literal, Protocol

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
    values,
)
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from stillroom.store.telemetry.metrics_files import AllocatedDict

_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30)
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

values.MmapedDict = AllocatedDict  # type: ignore[attr-defined]  # before the first number is made

OTHER: Final = "other"
"""Operation label for requests outside the API, such as health checks or unknown paths."""


class _FlushOnCollect(Collector):
    """Collector that flushes the collected values. It is registered first, so it runs first."""

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        flush()
        return ()


REGISTRY.register(_FlushOnCollect())


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return Counter(f"stillroom_{name}", meaning, labels)


def _outcome_counter(
    name: str, meaning: str, label: str = "outcome"
) -> Callable[[str | None], None]:
    counter = _counter(name, meaning, label)
    return lambda outcome: counter.labels(outcome or "unknown").inc()


class _Metadata(Protocol):
    @property
    def ai_mark(self) -> str | None: ...


def _mark_counter(name: str, meaning: str) -> Callable[[_Metadata], None]:
    count = _outcome_counter(name, meaning, "mark")
    return lambda found: count(found.ai_mark)


def _histogram(name: str, meaning: str, label: str) -> Histogram:
    return Histogram(f"stillroom_{name}", meaning, (label,), buckets=_BOUNDS)


_REQUESTS = _counter("requests", "Requests, by operation and status.", "operation", "status")
_SECONDS = _histogram(
    "request_seconds", "Time from the head of the request to the head of the response.", "operation"
)
_RECEIVED = _counter("received_bytes", "Bytes received in request bodies.", "operation")
_SENT = _counter("sent_bytes", "Bytes sent in response bodies.", "operation")
_CPU = _counter("cpu_seconds", "CPU time of all workers.")
_CALLS = _counter(
    "storage_calls",
    "Calls to the disk (fsync) or the bucket (S3 operations). Each attempt is counted.",
    "call",
    "outcome",
)
_CALL_SECONDS = _histogram("storage_call_seconds", "Duration of each attempt.", "call")
_RETRIES = _counter("storage_retries", "Attempts that followed a failed attempt.", "call")
_SWEPT = _counter(
    "media_swept",
    "Results of sweeps by server processes: due deletions, and unneeded copies.",
    "outcome",
)
count_healed = _outcome_counter(
    "media_healed", "Resources with missing properties, by the result of computing them."
)
count_picture = _outcome_counter(
    "derived_images",
    "Thumbnails by result: from the cache (kept), created (made), refused, or failed.",
)
count_reading = _outcome_counter(
    "generation_readings",
    "Images read for their generation metadata, by result: found, none, or broken.",
)
count_exceeded = _counter(
    "parsing_exceeded",
    "Files without metadata, because parsing their header or metadata takes too much work.",
).inc
count_mark = _mark_counter(
    "ai_mark_readings",
    "Images whose metadata was requested, by AI mark: c2pa, iptc, both, none, or unknown.",
)
count_saved_mark = _mark_counter(
    "ai_mark_saved",
    "Saved images, by AI mark: c2pa, iptc, both, none, or unknown. Images that were saved too "
    "fast to be examined are missing.",
)
_CONFINED = Gauge(
    "stillroom_decoders_confined",
    "1 if the kernel supports the confinement of decoding processes (landlock, seccomp), else 0.",
    ("by",),
    multiprocess_mode="mostrecent",
)
_BUILD = Gauge(
    "stillroom_build_info",
    "Always 1. The labels name the version, the storage of the images and the database.",
    ("version", "storage", "database"),
    multiprocess_mode="mostrecent",
)
_Mode = Literal["livesum", "livemax", "mostrecent"]
"""Mode in which prometheus_client combines the values of several workers."""

_MEANINGS: Final[dict[_Mode, dict[str, str]]] = {
    "livesum": {
        "requests_in_flight": "Requests in progress, in all workers together.",
        "connections": "Open connections, all workers together.",
        "workers": "Running worker processes.",
        "resident_memory_bytes": "Memory of all workers. Shared memory is counted once for each.",
    },
    "livemax": {
        "loop_lag_seconds": (
            "Delay of the last tick of the event loop, which ticks each second; of the worst "
            "worker."
        ),
    },
    "mostrecent": {
        "read_only": "1 after a failed sync, until a restart: images cannot be saved.",
        "data_free_bytes": "Free space on the filesystem of the data directory.",
        "data_min_free_bytes": (
            "STILLROOM_MIN_FREE_BYTES: with less free space, saves on a disk get 507."
        ),
        "media_marks": "Pending deletions, due now or later.",
        "media_due": "Deletions that are due.",
        "media_intents": "Copies in progress, or left by a crash.",
        "media_dead_letters": "Deletions that were given up.",
        "media_healing": "Resources with properties that are still to be computed.",
        "media_oldest_due_seconds": "Time since which the oldest due deletion has been due.",
        "media_measured_timestamp_seconds": (
            "Time at which the numbers of the media library were last read."
        ),
    },
}
_GAUGES: Final = {
    name: Gauge(f"stillroom_{name}", meaning, multiprocess_mode=mode)
    for mode, meanings in _MEANINGS.items()
    for name, meaning in meanings.items()
}

_NUMBER, _TIME, _BYTES, _FIRST_BUCKET = 0, 1, 2, 3


def _new_cell() -> list[float]:
    return [0] * (_FIRST_BUCKET + len(_BOUNDS) + 1)


_responses: defaultdict[tuple[str, int], list[float]] = defaultdict(_new_cell)
_received: defaultdict[str, int] = defaultdict(int)
_sent: defaultdict[str, int] = defaultdict(int)
# A deque, since threads append to it, which is atomic.
_calls_made: deque[tuple[str, str, float, bool]] = deque()


class _Current:
    in_flight = 0
    cpu_s = 0.0


def count(operation: str, status: int, seconds: float | None = None, sent: int = 0) -> None:
    """Count a response, its sent body bytes, and its duration if an operation has run."""
    cell = _responses[operation, status]
    cell[_NUMBER] += 1
    cell[_BYTES] += sent
    if seconds is not None:
        cell[_TIME] += seconds
        cell[_FIRST_BUCKET + bisect_left(_BOUNDS, seconds)] += 1


def count_sent(operation: str, sent: int) -> None:
    """Count sent bytes of a response body."""
    _sent[operation] += sent


def count_received(operation: str, received: int) -> None:
    """Count received bytes of a request body."""
    _received[operation] += received


def count_call(call: str, outcome: str, seconds: float, *, again: bool = False) -> None:
    """Count one attempt of an fsync or bucket request. Implements the protocol `CallObserver`."""
    _calls_made.append((call, outcome, seconds, again))


def begin() -> None:
    """Count a request as in flight until `end` is called."""
    _Current.in_flight += 1


def end() -> None:
    """Count the end of a request that was in flight."""
    _Current.in_flight -= 1


def set_gauges(**numbers: float) -> None:
    """Set gauges without labels, by their names without `stillroom_`."""
    for name, number in numbers.items():
        _GAUGES[name].set(number)


def flush() -> None:
    """Flush the collected values to prometheus_client, where all workers see them."""
    for (operation, status), cell in _responses.items():
        _REQUESTS.labels(operation, str(status)).inc(cell[_NUMBER])
        _SENT.labels(operation).inc(cell[_BYTES])
        _add(_SECONDS.labels(operation), cell)
    _responses.clear()
    for metric, gathered in ((_RECEIVED, _received), (_SENT, _sent)):
        for operation, number in gathered.items():
            metric.labels(operation).inc(number)
        gathered.clear()
    _flush_calls()
    set_gauges(requests_in_flight=_Current.in_flight)
    cpu_s = time.process_time()
    _CPU.inc(cpu_s - _Current.cpu_s)
    _Current.cpu_s = cpu_s
    with contextlib.suppress(OSError), open("/proc/self/statm", "rb") as file:  # EMFILE
        set_gauges(resident_memory_bytes=int(file.read().split()[1]) * _PAGE_BYTES)


def _flush_calls() -> None:
    calls: defaultdict[str, list[float]] = defaultdict(_new_cell)
    while _calls_made:
        call, outcome, seconds, is_retry = _calls_made.popleft()
        _CALLS.labels(call, outcome).inc()
        if is_retry:
            _RETRIES.labels(call).inc()
        cell = calls[call]
        cell[_TIME] += seconds
        cell[_FIRST_BUCKET + bisect_left(_BOUNDS, seconds)] += 1
    for call, cell in calls.items():
        _add(_CALL_SECONDS.labels(call), cell)


def _add(histogram: Histogram, cell: list[float]) -> None:
    """Add all observations counted in `cell` to a histogram; `Histogram.observe` adds only one."""
    for bucket, number in enumerate(cell[_FIRST_BUCKET:]):
        if number:
            histogram._buckets[bucket].inc(number)  # noqa: SLF001  (see above)
    histogram._sum.inc(cell[_TIME])  # noqa: SLF001  (see above)


def report_build(version: str, *, storage: str, database: str) -> None:
    """Set the metric for version and backends. Call this once in each worker."""
    _BUILD.labels(version, storage, database).set(1)
    set_gauges(workers=1)


def report_confinement(missing: Iterable[str]) -> None:
    """Set the metric for missing sandbox mechanisms of decoders. Call this once in each worker."""
    lacking = frozenset(missing)
    for part in ("Landlock", "seccomp"):
        _CONFINED.labels(part.lower()).set(part not in lacking)


def report_swept(outcomes: Mapping[str, int]) -> None:
    """Count the results of a sweep (execution of due deletions) by outcome."""
    for outcome, number in outcomes.items():
        _SWEPT.labels(outcome).inc(number)


def report_queues(*, oldest_due: timedelta, **sizes: int) -> None:
    """Set the sizes of the deletion and healing queues. Flush them at once, for idle workers."""
    set_gauges(
        **{f"media_{queue}": size for queue, size in sizes.items()},
        media_oldest_due_seconds=oldest_due.total_seconds(),
        media_measured_timestamp_seconds=time.time(),
    )
    flush()


async def metrics() -> Response:
    """Serve `/metrics` for all workers. Values of other workers may be a second old."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        flush()
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library types it not
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
