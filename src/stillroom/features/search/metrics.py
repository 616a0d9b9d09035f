"""Metrics of the search index."""

from stillroom.store.telemetry.metrics import outcome_counter

count_saved_mark = outcome_counter(
    "ai_mark_saved",
    "Saved images, by AI mark: c2pa, iptc, both, none, or unknown. Images that were saved too "
    "fast to be examined are missing.",
    "mark",
)
