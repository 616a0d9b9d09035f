"""Collection of the outcomes of bulk operations such as `ImageStore.save_many`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from stillroom.client import answers
from stillroom.client.errors import SomeFailed, UnexpectedAnswer
from stillroom.client.values import Outcome
from stillroom.errors import (
    BackendUnavailable,
    ConfigurationError,
    StillroomError,
    StorageFull,
    Unauthenticated,
)

T = TypeVar("T")

FAILED: Final = (StillroomError, OSError)
"""Exceptions that become the outcome of one image. All others end the bulk operation."""

_FAILS_ALL: Final = (Unauthenticated, StorageFull, BackendUnavailable, ConfigurationError)
"""Errors after which a bulk operation stops, because the remaining images would fail, too."""


class Gathered(Generic[T]):
    """Collector for the outcomes of a bulk operation, which may arrive in any order."""

    def __init__(self, each: Callable[[Outcome[T]], None] | None) -> None:
        self._each = each
        self._outcomes: dict[int, Sequence[Outcome[T]]] = {}
        self.stopped = False  # if True, the remaining images should not be attempted

    def add(self, number: int, outcomes: Sequence[Outcome[T]]) -> None:
        """Add the outcomes of one job. `number` is the position of the job in the input."""
        self._outcomes[number] = outcomes
        for outcome in outcomes:
            self.stopped |= isinstance(outcome.error, _FAILS_ALL)
            self.stopped |= getattr(outcome.error, "scope", None) is not None
            if self._each is not None:
                self._each(outcome)

    def results(self) -> list[T]:
        """Return the results of all images in input order, or raise `SomeFailed`."""
        jobs = (self._outcomes[number] for number in sorted(self._outcomes))
        outcomes = [outcome for job in jobs for outcome in job]
        if any(outcome.error is not None for outcome in outcomes):
            raise SomeFailed(outcomes, stopped=self.stopped)
        return [outcome.result for outcome in outcomes if outcome.result is not None]


def batches(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the elements of an iterable in lists of up to `size` elements."""
    left = iter(things)
    while batch := list(islice(left, size)):
        yield batch


def error_of_result(result: Mapping[str, Any], path: str) -> StillroomError:
    """Return the exception for one image that failed in a batch request."""
    code, detail = result["code"], result["detail"]
    return answers.error_of(code, detail, path) or UnexpectedAnswer(f"{path}: {detail}")
