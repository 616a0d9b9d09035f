"""Requests that the SDK sends, and their responses or failures."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stillroom.client.sinks import Sink
from stillroom.client.sources import ImagePayload
from stillroom.client.values import OnProgress, Progress


@dataclass(frozen=True, slots=True)
class Form:
    """Body of a request: an image and, in a multipart form, the bytes before and after it."""

    head: bytes
    upload: ImagePayload
    tail: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """HTTP request that the SDK sends to a server."""

    method: str
    target: str  # path and query below the API's root, or a URL of another server (without a token)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Form | None = None
    sink: Sink | None = None  # destination for the body of a 200 or 206 response, if not the memory
    timeout_s: float = 60  # limit for each single read or write of the socket
    subject: str = ""  # path of the image or name of the archive
    progress: OnProgress | None = None

    @property
    def elsewhere(self) -> bool:
        """True if the target is a URL of another server."""
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
    """Failed attempt to send a request and receive the response."""

    error: Exception
    sent: bool  # the server may have received the request
    head: Answer | None = None  # status and headers, if only the body could not be received
    permanent: bool = False  # a retry is unlikely to help (unknown host, invalid certificate)
