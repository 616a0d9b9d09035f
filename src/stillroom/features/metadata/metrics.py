"""Metrics of the parsing of image metadata."""

from stillroom.store.telemetry.metrics import counter, outcome_counter

count_reading = outcome_counter(
    "generation_readings",
    "Images read for their generation metadata, by result: found, none, or broken.",
)
count_mark = outcome_counter(
    "ai_mark_readings",
    "Images whose metadata was requested, by AI mark: c2pa, iptc, both, none, or unknown.",
    "mark",
)
count_exceeded = counter(
    "parsing_exceeded",
    "Files without metadata, because parsing their header or metadata takes too much work.",
).inc
