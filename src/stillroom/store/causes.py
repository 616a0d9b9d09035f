"""Cause of a change to a stored image: who requested it, and the reason for a deletion.

The cause is a context variable. A task that starts another task passes its cause on.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Literal

Reason = Literal["request", "expired", "relocated", "run", "retention", "external"]
"""Reason for the deletion of an image. `external` means that another tool deleted it."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Cause of a change."""

    actor: str | None = None  # subject of the token of the request; None for background jobs, too
    reason: Reason = "request"  # reason for the deletion; other changes ignore it


REQUEST: Final = Cause()
"""Cause of a change that was requested without a token, or with a token without a subject."""

EXTERNAL: Final = Cause(reason="external")
"""Cause of a change by another tool, and of a change whose record was lost in a crash."""

current: Final = ContextVar("cause", default=REQUEST)  # of the changes that this task makes


def note_actor(actor: str | None) -> None:
    """Set the actor of all changes that follow in the current task."""
    current.set(REQUEST if actor is None else Cause(actor))


@contextlib.contextmanager
def caused_by(cause: Cause) -> Iterator[None]:
    """Context manager: set the cause of the changes that are made inside the block."""
    token = current.set(cause)
    try:
        yield
    finally:
        current.reset(token)
