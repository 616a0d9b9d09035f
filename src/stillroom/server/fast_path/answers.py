"""Responses of the fast path, and their lines in the access log."""

from dataclasses import dataclass
from typing import NamedTuple

from stillroom.telemetry import request_id
from stillroom.telemetry.logging import log_access


@dataclass(slots=True)
class Answer:
    """Response without its status line, date and request id.

    Instances are shared and must not be changed. They are not frozen, because creating a frozen
    dataclass takes three times as long.

    Attributes:
        head: Header lines, with the empty line.
        body: Body of an error.
        start: Start of the range of the image that is the body.
        length: Length of the range; 0 if `body` is the body.
        proxy_head: Header lines for a proxy that sends the range, up to the image's name.
    """

    operation: str
    status: int
    head: bytes
    body: bytes = b""
    start: int = 0
    length: int = 0
    proxy_head: bytes = b""

    def for_proxy(self, name: str) -> "Answer":
        """Return the response for a proxy, with the pinned name of the image instead of a body."""
        head = b"%s%s\r\n\r\n" % (self.proxy_head, name.encode("ascii"))
        return Answer(self.operation, self.status, head)


class AnswerRecord(NamedTuple):
    """Data of a response for the access log."""

    client: tuple[str, int] | None
    request: bytes
    answer: Answer
    request_id: bytes
    started: float

    def log(self, sent: int) -> None:
        """Write the line after `sent` bytes of the body were sent."""
        # If the client sent no id, a success has one only in the log.
        id_ = self.request_id or request_id.generate_bytes()
        method, target, _ = self.request.decode("latin-1").split(" ", 2)
        log_access(
            self.client, method, target, self.answer.status,
            operation=self.answer.operation, request_id=id_.decode("ascii"),
            began=self.started, sent=sent,
        )  # fmt: skip
