"""Metrics of thumbnails."""

from prometheus_client import Gauge

from stillroom.features.pictures import confinement
from stillroom.store.telemetry.metrics import outcome_counter

count_picture = outcome_counter(
    "derived_images",
    "Thumbnails by result: from the cache (kept), created (made), refused, or failed.",
)
_CONFINED = Gauge(
    "stillroom_decoders_confined",
    "1 if the kernel supports the confinement of decoding processes (landlock, seccomp), else 0.",
    ("by",),
    multiprocess_mode="mostrecent",
)


def report_confinement() -> None:
    """Set the metric for the confinement of decoding processes. Call this once per worker."""
    gaps = confinement.gaps()
    for part in ("Landlock", "seccomp"):
        _CONFINED.labels(part.lower()).set(part not in gaps)
