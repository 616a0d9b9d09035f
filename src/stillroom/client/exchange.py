"""Requests that the SDK sends, and their responses or failures."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stillroom.client.sinks import Sink
from stillroom.client.sources import ImagePayload
from stillroom.client.values import OnProgress, Progress


@dataclass(frozen=True, slots=True)
class Form:
    """Body of a request: an image, with the bytes of a form before and after it, if any."""

    head: bytes
    upload: ImagePayload
    tail: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """HTTP request that the SDK sends to a server.

    Attributes:
        target: Path and query, relative to the API's root; or a complete URL of another server,
            to which no token is sent.
        sink: Destination for the body of a 200 or 206 response; None to keep the body in memory.
        timeout_s: Limit in seconds for each single read or write of the socket.
        subject: Path of the image or name of the archive, for `Progress` and error messages.
    """

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Form | None = None
    sink: Sink | None = None
    timeout_s: float = 60
    subject: str = ""
    progress: OnProgress | None = None

    @property
    def elsewhere(self) -> bool:
        """Return whether the target is a complete URL instead of a path on the Stillroom server."""
        return not self.target.startswith("/")

    def report(self, done: int, total: int | None) -> None:
        """Call the progress callback, if there is one."""
        if self.progress is not None:
            self.progress(Progress(self.subject, done, total))


@dataclass(frozen=True, slots=True)
class Answer:
    """Response with lower-case header names. The body is empty if it was written to a sink."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """Failed attempt to send a request and receive the response.

    If only the response's body could not be received, `head` has the status and headers. If
    `sent` is True, the server may have received the request. If `permanent` is True, a retry is
    unlikely to help (unknown host, invalid certificate).
    """

    error: Exception
    sent: bool
    head: Answer | None = None
    permanent: bool = False
