"""Metrics of the media library."""

import time
from dataclasses import asdict

from stillroom.features.library.resource import QueueMetrics
from stillroom.features.library.sweeper import Swept
from stillroom.store.telemetry import metrics

_SWEPT = metrics.counter(
    "media_swept",
    "Results of sweeps by server processes: due deletions, and unneeded copies.",
    "outcome",
)
count_healed = metrics.outcome_counter(
    "media_healed", "Resources with missing properties, by the result of computing them."
)
metrics.add_gauges(
    "mostrecent",
    media_marks="Pending deletions, due now or later.",
    media_trash="Images in the trash, with the manifests of deleted runs.",
    media_due="Deletions that are due.",
    media_intents="Copies in progress, or left by a crash.",
    media_dead_letters="Deletions that were given up.",
    media_healing="Resources with properties that are still to be computed.",
    media_oldest_due_seconds="Time since which the oldest due deletion has been due.",
    media_measured_timestamp_seconds=(
        "Time at which the numbers of the media library were last read."
    ),
)


def report_swept(swept: Swept) -> None:
    """Add the results of a sweep (execution of due deletions) to the metrics."""
    for outcome, number in swept.outcomes.items():
        _SWEPT.labels(outcome).inc(number)


def report_queues(waiting: QueueMetrics) -> None:
    """Set the metrics of the media library's queues."""
    sizes = asdict(waiting)
    oldest_due_s = sizes.pop("oldest_due").total_seconds()
    metrics.set_gauges(
        **{f"media_{queue}": size for queue, size in sizes.items()},
        media_oldest_due_seconds=oldest_due_s,
        media_measured_timestamp_seconds=time.time(),
    )
    metrics.flush()  # to the file that all workers share; an idle worker would write it much later
