"""Requests counted, in Prometheus' text form.

With several workers each keeps its numbers in a file that the others can read
(prometheus_client's multiprocess mode, switched on by `server` through
PROMETHEUS_MULTIPROC_DIR), so that any of them answers for all.
"""

import os

from fastapi import Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

_REQUESTS = Counter(
    "stillroom_requests", "Requests answered, by operation and status.", ("operation", "status")
)
_SECONDS = Histogram(
    "stillroom_request_seconds",
    "Time from the request's head to the answer's.",
    ("operation",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30),
)


def count(operation: str, status: int, seconds: float | None = None) -> None:
    """Count one answer, and the time that it took if it reached an operation."""
    _REQUESTS.labels(operation, str(status)).inc()
    if seconds is not None:
        _SECONDS.labels(operation).observe(seconds)


async def metrics() -> Response:
    """All numbers, of all workers."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library types it not
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
