"""When to try again, and when to give up."""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from stillroom.client.errors import ServerUnreachable
from stillroom.client.exchange import Answer, Call, Failure, Flow, Wait

RETRIED: Final = frozenset((408, 429, 502, 503, 504))
"""A later attempt may succeed. A 500 is a fault of the server's code, and would come again."""

log = logging.getLogger("stillroom.client")


@dataclass(frozen=True, slots=True)
class Retries:
    """How long and how often to try.

    Attributes:
        deadline_s: No attempt begins later than this after the first one, or after the last
            byte of a download.
        timeout_s: No single read or write of the socket takes longer.
        connect_deadline_s: Instead of `deadline_s` where waiting is unlikely to help: an unknown
            host, a TLS error, or no connection to a server that has not answered before.
        first_wait_s: The mean wait before the second attempt is half of this; it doubles.
        longest_wait_s: The doubling stops here.
        clock: Seconds; for tests.
        answered: Set once the server has answered anything.
    """

    deadline_s: float = 120
    timeout_s: float = 60
    connect_deadline_s: float = 10
    first_wait_s: float = 0.2
    longest_wait_s: float = 10
    clock: Callable[[], float] = time.monotonic
    answered: threading.Event = field(default_factory=threading.Event)


class Attempts:
    """Of one operation.

    Attributes:
        doubtful: Whether one of them had no clear outcome, so that a later refusal may be
            the echo of its success.
    """

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self.doubtful = False
        self.progressed()

    def progressed(self) -> None:
        """Something has come: the deadline counts from now."""
        self._began = self._retries.clock()
        self._failed = 0

    def prepared(self, call: Call) -> Call:
        """The call, with no more time than is left."""
        left = self._began + self._retries.deadline_s - self._retries.clock()
        return replace(call, timeout_s=max(0.1, min(self._retries.timeout_s, left)))

    def wait_after(self, outcome: Answer | Failure) -> Wait | None:
        """How long to wait before the next attempt; None if the outcome is final.

        The first repetition is a warning in the log, with the reason; later ones are not logged.
        Full jitter, so that a thousand workers do not come back in one moment. Source:
        https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

        Raises:
            ServerUnreachable: the deadline leaves no room for another attempt.
        """
        if isinstance(outcome, Answer):
            self._retries.answered.set()
            if outcome.status not in RETRIED:
                return None
        self.doubtful |= isinstance(outcome, Answer) or outcome.sent
        ceiling = self._retries.first_wait_s * 2 ** min(self._failed, 30)
        wait = random.uniform(0, min(ceiling, self._retries.longest_wait_s))  # noqa: S311  (no secret)
        if isinstance(outcome, Answer):
            wait += _seconds(outcome.headers.get("retry-after", ""))
        deadline_s = self._deadline_after(outcome)
        if self._retries.clock() + wait < self._began + deadline_s:
            if not self._failed:
                log.warning("%s; trying again for up to %g s", _reason(outcome), deadline_s)
            self._failed += 1
            return Wait(wait)
        if isinstance(outcome, Answer):
            return None
        raise ServerUnreachable(
            f"{_reason(outcome)}: is it running, and is the URL right?"
        ) from outcome.error

    def _deadline_after(self, outcome: Answer | Failure) -> float:
        if isinstance(outcome, Failure) and (
            outcome.permanent or not (outcome.sent or self._retries.answered.is_set())
        ):
            return min(self._retries.connect_deadline_s, self._retries.deadline_s)
        return self._retries.deadline_s


def persistently(call: Call, attempts: Attempts) -> Flow[Answer]:
    """The answer to a call that may be repeated; what it says is the caller's to read.

    Raises:
        ServerUnreachable: there is none before the deadline.
    """
    while True:
        outcome = yield attempts.prepared(call)
        assert outcome is not None  # noqa: S101  (what a call is answered with)
        wait = attempts.wait_after(outcome)
        if wait is not None:
            yield wait
        elif isinstance(outcome, Answer):
            return outcome


def _seconds(field: str) -> float:
    """A `Retry-After` in seconds; as a date, which we never send, it counts as none."""
    return float(field) if field.isascii() and field.isdigit() and len(field) < 6 else 0


def _reason(outcome: Answer | Failure) -> str:
    if isinstance(outcome, Answer):
        return f"the server answers {outcome.status}"
    return f"no answer from the server ({str(outcome.error) or type(outcome.error).__name__})"
