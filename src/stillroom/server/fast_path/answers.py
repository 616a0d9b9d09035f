"""An answer of the fast path, and its line in the access log."""

from dataclasses import dataclass
from typing import NamedTuple

from stillroom.telemetry import request_id
from stillroom.telemetry.logging import log_access


@dataclass(slots=True)
class Answer:
    """An answer behind its status line, date and request id, and what its body is.

    Shared, so never changed; but to make a frozen dataclass takes three times as long.

    Attributes:
        body: Of an error.
        start: Of the slice of the image that is the body.
        length: Of the slice; 0: `body` is the body.
        handed_over: The head for a proxy that sends the slice, up to the image's name.
    """

    operation: str
    status: int
    head: bytes
    body: bytes = b""
    start: int = 0
    length: int = 0
    handed_over: bytes = b""

    def naming(self, name: str) -> "Answer":
        """The answer for a proxy, with the pinned name of the image in place of its bytes."""
        head = b"%s%s\r\n\r\n" % (self.handed_over, name.encode("ascii"))
        return Answer(self.operation, self.status, head)


class AnswerRecord(NamedTuple):
    """What the access log says about an answer."""

    client: tuple[str, int] | None
    request: bytes
    answer: Answer
    request_id: bytes
    began: float

    def log(self, sent: int) -> None:
        """Write the line, now that `sent` bytes of the body were sent."""
        # A success without an id of the client's has one in this line only.
        named = self.request_id or request_id.generate_bytes()
        method, target, _ = self.request.decode("latin-1").split(" ", 2)
        log_access(
            self.client, method, target, self.answer.status,
            operation=self.answer.operation, request_id=named.decode("ascii"),
            began=self.began, sent=sent,
        )  # fmt: skip
