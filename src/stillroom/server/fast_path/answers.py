"""Responses that the fast path sends, and their access log entries."""

from dataclasses import dataclass
from typing import NamedTuple

from stillroom.telemetry import request_id
from stillroom.telemetry.logging import log_access


@dataclass(slots=True)
class Answer:
    """Response without status line, date and request id.

    Instances are shared and must not be changed. They are not frozen, because creating a frozen
    dataclass takes three times as long.

    Attributes:
        head: Header lines, with the empty line.
        body: Response body of an error.
        start: Offset of the range of the image that is sent as the body.
        length: Length of the range; 0 if `body` is sent instead.
        proxy_head: Header lines that tell a proxy to send the range, up to the image's name.
    """

    operation: str
    status: int
    head: bytes
    body: bytes = b""
    start: int = 0
    length: int = 0
    proxy_head: bytes = b""

    def for_proxy(self, name: str) -> "Answer":
        """Return a response with which a proxy sends the image; `name` is its pinned name."""
        head = b"%s%s\r\n\r\n" % (self.proxy_head, name.encode("ascii"))
        return Answer(self.operation, self.status, head)


class AnswerRecord(NamedTuple):
    """Data of one response for the access log."""

    client: tuple[str, int] | None
    request: bytes
    answer: Answer
    request_id: bytes
    started: float

    def log(self, sent: int) -> None:
        """Write the access log line; `sent` is the number of body bytes that were sent."""
        # If the client sent no id, a success has one only in the log.
        id_ = self.request_id or request_id.generate_bytes()
        method, target, _ = self.request.decode("latin-1").split(" ", 2)
        log_access(
            self.client, method, target, self.answer.status,
            operation=self.answer.operation, request_id=id_.decode("ascii"),
            began=self.started, sent=sent,
        )  # fmt: skip
