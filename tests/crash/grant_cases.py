"""Upload grants that are interrupted, and faults of the bucket that their requests meet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from crash.grant_deeds import content_of
from services import proxy_faults as faults
from services.faulty_proxy import Exchange, Fault

FAULTS: Final = (
    faults.answers(503, "SlowDown"),
    faults.answers(500, "InternalError"),
    faults.does_it_but_says_500,
    faults.resets_before_the_body,
    faults.does_it_and_resets,
    faults.is_silent,
    faults.does_it_and_is_silent,
    faults.breaks_off_its_body,
)


@dataclass(eq=False)
class Case:
    """One grant.

    Attributes:
        old: SHA-256 of an image that the path had before.
        is_asked: True once a completion was requested.
        saved: Response to the first acknowledged completion.
    """

    path: str
    content: tuple[str, int]
    grant: dict[str, Any]
    old: str | None
    is_asked: bool = False
    saved: dict[str, Any] | None = None

    @property
    def data(self) -> bytes:
        return content_of(*self.content)

    @property
    def keys(self) -> tuple[str, str]:
        grant_id = self.grant["grant"].partition("?")[0]
        return f"temp/{grant_id}", f"compute/{self.path}"


class Trouble:
    """Fault that requests about some keys meet: only the n-th one, or all of an operation.

    Attributes:
        asked: Operations of the requests so far.
    """

    def __init__(
        self, fault: Fault, *, operation: str = "", number: int = 0, keys: Sequence[str] = ()
    ) -> None:
        """Without `keys`, all requests meet the fault."""
        self._fault, self._operation, self._number, self._keys = fault, operation, number, keys
        self.asked: list[str] = []
        self.met = False

    def choose(self, exchange: Exchange) -> Fault | None:
        if self._keys and exchange.key not in self._keys:
            return None
        self.asked.append(exchange.operation)
        if len(self.asked) != self._number and exchange.operation != self._operation:
            return None
        self.met = True
        return self._fault
