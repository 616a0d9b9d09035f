"""Deadlines of the product: longer than a busy machine needs, or short for what must fail."""

import importlib.util
from typing import Final

import pytest

_PHASES: Final = ("connect", "read", "write", "pool")
_PROMPTING: Final = ("facts", "images", "search")
_OF_A_BUCKET: Final = (
    *(
        f"store.bucket.{name}"
        for name in ("abandoned_uploads", "listing", "storage", "upload", "uploads")
    ),
    *("store.s3.client", "store.s3.store", "store.objectstore"),
)
_BUCKET_DEADLINES: Final = [f"stillroom.{name}.DEADLINE_S" for name in _OF_A_BUCKET]
_HAS_DATABASE: Final = importlib.util.find_spec("sqlalchemy") is not None  # `make core` has none
_DATABASE_DEADLINES: Final = [
    f"stillroom.features.database.engine.{name}_S"
    for name in ("_BUSY", "_CONNECT", "_TIMEOUT", "_SQLITE_TIMEOUT")
    if _HAS_DATABASE
]

PATIENT: Final = {
    **{f"httpx._config.DEFAULT_TIMEOUT_CONFIG.{phase}": 60.0 for phase in _PHASES},
    **dict.fromkeys(_BUCKET_DEADLINES, 60.0),
    "stillroom.store.api.entries._HOOKS_TIMEOUT_S": 60.0,
    "stillroom.store.api.health._WAIT_S": 60.0,
    "stillroom.features.metadata.operation._DATABASE_TIMEOUT_S": 60.0,
    "stillroom.features.runs.operations._EXPIRATIONS_TIMEOUT_S": 60.0,
    "stillroom.store.auth.jwks.FETCH_TIMEOUT_S": 60.0,
    "stillroom.cli.doctor._TIMEOUT_S": 60,
    **{f"stillroom.cli.{module}.PROMPT_DEADLINE_S": 60 for module in _PROMPTING},
    "stillroom.features.pictures.decoders._WAIT_S": 60.0,
    "stillroom.features.pictures.images._TURN_S": 60.0,
    "stillroom.store.feature._INDEXED_WITHIN_S": 60.0,
    **dict.fromkeys(_DATABASE_DEADLINES, 60),
    "stillroom.store.bucket.storage._CHECK_S": 60.0,
    "stillroom.store.s3.client._TIMEOUT_S": 60.0,
    "stillroom.store.connections.CONNECT_S": 60.0,
    "stillroom.store.s3.store._LIST_TIMEOUT_S": 60.0,
}
"""Deadlines of the product and of httpx in seconds, since a step may take long on a busy machine.

A test that is about a deadline sets its own."""


def hurry(monkeypatch: pytest.MonkeyPatch, deadline_s: float, timeout_s: float) -> None:
    """Give a bucket so little time, for what must fail in any case."""
    for name in _BUCKET_DEADLINES:
        monkeypatch.setattr(name, deadline_s)
    monkeypatch.setattr("stillroom.store.s3.client._LEAST_S", deadline_s / 20)
    for name in (
        "bucket.abandoned_uploads._LONGEST_PAUSE",
        "s3.client._TIMEOUT",
        "s3.store._LIST_TIMEOUT",
    ):
        monkeypatch.setattr(f"stillroom.store.{name}_S", timeout_s)
