"""Metrics of purges. `stillroom_media_dead_letters` counts purges that were given up."""

from datetime import timedelta

from stillroom.store.telemetry.metrics import add_gauges, flush, outcome_counter, set_gauges

count_request = outcome_counter(
    "purge_requests", "Requests to purge up to 100 URLs: delivered, failed, throttled or gone."
)
add_gauges(
    "mostrecent",
    purges_waiting="URLs of deleted images that were not purged yet.",
    purge_oldest_seconds="Age of the oldest of these purges.",
)


def report_waiting(number: int, oldest: timedelta) -> None:
    """Set the gauges, and flush them at once, because an idle worker flushes late."""
    set_gauges(purges_waiting=number, purge_oldest_seconds=oldest.total_seconds())
    flush()
