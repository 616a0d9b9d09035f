"""What goes wrong on this side of the wire; all else is as the server names it."""

from typing import TYPE_CHECKING, Any

from stillroom.errors import BackendUnavailable, StillroomError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stillroom.client.values import Outcome


class ServerUnreachable(BackendUnavailable):
    """No answer before the deadline. Whether the last attempt had an effect is unknown."""

    code = "unreachable"


class UnexpectedAnswer(StillroomError):
    """An answer that Stillroom does not give: another server, or a proxy, is speaking."""

    code = "unexpected_answer"


class SomeFailed(StillroomError):
    """Of many images some could not be saved or deleted.

    Attributes:
        outcomes: Of all that were tried, in the order given.
        stopped: Whether the rest was not tried, since it would have failed alike.
    """

    code = "some_failed"

    def __init__(self, outcomes: "Sequence[Outcome[Any]]", *, stopped: bool) -> None:
        self.outcomes = outcomes
        self.stopped = stopped
        failed = [outcome.error for outcome in outcomes if outcome.error is not None]
        rest = ", the rest was not tried" if stopped else ""
        super().__init__(f"{len(failed)} of {len(outcomes)} failed{rest}; the first: {failed[0]}")
