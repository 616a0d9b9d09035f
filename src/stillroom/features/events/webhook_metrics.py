"""Metrics of webhooks. `stillroom_media_dead_letters` counts events that failed for good."""

from collections.abc import Sequence
from typing import Final

from prometheus_client import Gauge

from stillroom.features.database.clock import now
from stillroom.features.events.webhook_values import EndpointMetrics
from stillroom.store.telemetry.metrics import counter, flush

_ATTEMPTS = counter(
    "webhook_attempts",
    "Attempts to deliver events to webhooks: delivered, failed, throttled, gone or too_large.",
    "endpoint",
    "outcome",
)


def _gauge(name: str, text: str) -> Gauge:
    return Gauge(f"stillroom_webhook_{name}", text, ("endpoint",), multiprocess_mode="mostrecent")


_LAG: Final = _gauge("lag_seconds", "Age of the oldest event that was not delivered.")
_WAITING: Final = _gauge("waiting", "Failed deliveries, and events that wait for them.")
_PAUSED: Final = _gauge("paused", "1 while an endpoint is paused, or disabled after a 410.")
_LOST: Final = _gauge("lost_events", "Events that were not delivered within the retention time.")


def count_attempt(endpoint: str, result: str) -> None:
    """Count an attempt to deliver an event."""
    _ATTEMPTS.labels(endpoint, result).inc()


def report_endpoints(endpoints: Sequence[EndpointMetrics]) -> None:
    """Set the gauges of endpoints, and flush them at once, because an idle worker flushes late."""
    moment = now()
    for endpoint in endpoints:
        name, state = endpoint.state.name, endpoint.state
        _LAG.labels(name).set(endpoint.lag_s(moment))
        _WAITING.labels(name).set(endpoint.waiting)
        _PAUSED.labels(name).set(state.is_paused or state.gone_digest is not None)
        _LOST.labels(name).set(state.lost)
    flush()
