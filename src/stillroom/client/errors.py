"""Exceptions that the SDK raises in addition to the server's errors in `stillroom.errors`."""

from typing import TYPE_CHECKING, Any, Final

from stillroom.errors import BackendUnavailable, StillroomError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stillroom.client.values import Outcome

FAILED: Final = (StillroomError, OSError)
"""Exceptions that fail a single image of a bulk operation. Other exceptions stop the operation."""


class ServerUnreachable(BackendUnavailable, code="unreachable"):
    """The server did not respond before the deadline. It may still have executed the request."""


class UnexpectedAnswer(StillroomError, code="unexpected_answer"):
    """The response was not sent by Stillroom but by another server or a proxy."""


class SomeFailed(StillroomError, code="some_failed"):
    """Some of the images could not be saved, downloaded or deleted.

    Attributes:
        outcomes: Outcomes of all attempted images, in input order.
        stopped: True if the remaining images were not tried, since the same error was expected.
    """

    def __init__(self, outcomes: "Sequence[Outcome[Any]]", *, stopped: bool) -> None:
        self.outcomes = outcomes
        self.stopped = stopped
        failed = [outcome.error for outcome in outcomes if outcome.error is not None]
        rest = ", the rest was not tried" if stopped else ""
        super().__init__(f"{len(failed)} of {len(outcomes)} failed{rest}; the first: {failed[0]}")
