"""Retries of failed requests, with exponential backoff and deadlines."""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import urlsplit

from stillroom.client.errors import ServerUnreachable
from stillroom.client.exchange import Answer, Call, Failure
from stillroom.errors import BackendUnavailable

RETRIED: Final = frozenset((408, 429, 502, 503, 504))
"""Status codes after which a request is retried. 500 is not one of them: a bug would recur."""

log = logging.getLogger("stillroom.client")


@dataclass(frozen=True, slots=True)
class Retries:
    """Settings for retries of failed requests; see `ImageStore.__init__` for the first three."""

    deadline_s: float = 120
    timeout_s: float = 60
    connect_deadline_s: float = 10
    first_wait_s: float = 0.2  # maximum of the first random wait, doubled with each retry
    longest_wait_s: float = 10
    clock: Callable[[], float] = time.monotonic
    answered: threading.Event = field(default_factory=threading.Event)  # after the first response
    server: str = ""  # URL of the server


class Attempts:
    """State of one operation: its deadline and the attempts so far.

    Attributes:
        doubtful: True if an earlier attempt may have succeeded although no response arrived. That
            success may be the reason for a later error, such as 404 for a deletion.
    """

    def __init__(self, retries: Retries, archive: str = "") -> None:
        """Start the deadline. `archive` is the name of the ZIP file to download, if any."""
        self._archive, self._breaks = archive, 0
        self._retries = retries
        self._server = retries.server
        self.doubtful = False
        self.progressed()

    def progressed(self) -> None:
        """Restart the deadline, because data was received."""
        self._began = self._retries.clock()
        self._failed = 0

    def prepared(self, call: Call) -> Call:
        """Return a copy of a request, with a timeout that ends at the deadline or earlier."""
        parts, self._server = urlsplit(call.target), self._retries.server
        if call.elsewhere and parts.hostname:
            self._server = f"{parts.scheme}://{parts.hostname}"
        left = self._began + self._retries.deadline_s - self._retries.clock()
        return replace(call, timeout_s=max(0.1, min(self._retries.timeout_s, left)))

    def wait_after(self, outcome: Answer | Failure) -> float | None:
        """Return the seconds until the next attempt, or None if `outcome` must not be retried.

        Random waits ("full jitter") prevent many workers from retrying at the same moment:
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

        Raises:
            ServerUnreachable: There was no response, and the deadline allows no further attempt.
            BackendUnavailable: The download of an archive was interrupted too often.
        """
        if self._archive and isinstance(outcome, Failure) and outcome.head is not None:
            self._breaks += 1
            if self._breaks == 3:
                raise BackendUnavailable(
                    f"{self._archive}: the download was interrupted {self._breaks} times: the "
                    "server's log says which image could not be read"
                ) from outcome.error
        if isinstance(outcome, Answer):
            self._retries.answered.set()
            if outcome.status not in RETRIED:
                return None
        self.doubtful |= isinstance(outcome, Answer) or outcome.sent
        ceiling = self._retries.first_wait_s * 2 ** min(self._failed, 30)
        wait = random.uniform(0, min(ceiling, self._retries.longest_wait_s))  # noqa: S311  (no secret)
        if isinstance(outcome, Answer):
            wait += _seconds(outcome.headers.get("retry-after", ""))
        deadline_s = self._retries.deadline_s
        if isinstance(outcome, Failure) and (
            outcome.permanent or not (outcome.sent or self._retries.answered.is_set())
        ):
            deadline_s = min(self._retries.connect_deadline_s, deadline_s)
        if self._retries.clock() + wait < self._began + deadline_s:
            if not self._failed:
                log.warning("%s; trying again for up to %g s", _reason(outcome), deadline_s)
            self._failed += 1
            return wait
        if isinstance(outcome, Answer):
            return None
        raise ServerUnreachable(
            f"{_reason(outcome)}: is the server running at {self._server}?"
        ) from outcome.error


def _seconds(field: str) -> float:
    """Parse the seconds in `Retry-After`. A date, which Stillroom never sends, counts as 0."""
    return float(field) if field.isascii() and field.isdigit() and len(field) < 6 else 0


def _reason(outcome: Answer | Failure) -> str:
    if isinstance(outcome, Answer):
        return f"the server responds {outcome.status}"
    return f"no response from the server ({str(outcome.error) or type(outcome.error).__name__})"
