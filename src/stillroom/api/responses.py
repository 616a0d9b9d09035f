"""What operations answer with: JSON, images, problems, and 405 where there is no operation."""

import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import Final

from fastapi import Response
from starlette.types import Receive, Scope, Send

from stillroom.errors import StillroomError
from stillroom.http.problems import JSON_HEADERS, Problem, plain_problem, problem
from stillroom.http.serving import ImageAnswer
from stillroom.storage.values import OpenedImage
from stillroom.telemetry import metrics, request_id

SERVER_ERRORS: Final = 500

OPERATION: Final = "stillroom.operation"
"""Where a request's scope says which operation it has reached."""

log = logging.getLogger("stillroom.api")


def json_answer(content: object, status: int = 200) -> Response:
    """A success and `content`."""
    return Response(json_bytes(content), status, headers=dict(JSON_HEADERS))


def json_bytes(content: object) -> bytes:
    """`content` as JSON in UTF-8."""
    # JSONResponse would do the same with more options; names are UTF-8 on the wire as on disk.
    # A lone surrogate, which JSON can spell and UTF-8 cannot, is spelled in JSON again.
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def refused(name: str, target: bytes, error: StillroomError) -> Problem:
    """The answer to a request that failed with `error`; logged if the fault is on our side."""
    found = problem(error, request_id.current.get())
    if found.status >= SERVER_ERRORS:
        # The cause says it all; a traceback for every request would bury it.
        log.error(
            "%(operation)s %(target)s: %(error)s (%(cause)r)",
            {
                "operation": name,
                "target": shown_target(target),
                "status": found.status,
                "code": error.code,
                "error": error,
                "cause": error.__cause__,
            },
        )
    return found


def disconnected(name: str, target: bytes) -> Problem:
    """The answer that a client has not waited for; logged."""
    log.info(
        "%(operation)s %(target)s: the client disconnected",
        {"operation": name, "target": shown_target(target)},
    )
    return plain_problem(400, "the client disconnected", "disconnected")


def shown_target(target: bytes) -> str:
    """A raw target as a log shows it, which escapes what would begin another line."""
    return target.decode("ascii", "backslashreplace")


class ProblemResponse(Response):
    """An answer that says what went wrong."""

    def __init__(self, found: Problem) -> None:
        super().__init__(found.body, found.status)
        self.raw_headers = _raw(found.headers)


class MethodNotAllowed:
    """405 with all methods of a path; the router alone would name those of its first route."""

    def __init__(self, allow: str) -> None:
        self._allow = allow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and count."""
        metrics.count("method_not_allowed", 405)
        scope[OPERATION] = "method_not_allowed"
        message = f"{scope['method']} is not allowed here, only {self._allow}"
        found = plain_problem(405, message, "method_not_allowed")
        found.headers.append(("allow", self._allow))
        await ProblemResponse(found)(scope, receive, send)


class ImageResponse(Response):
    """The head of an answer, and a slice of an open image that is closed afterwards.

    Our server raises ConnectionError when a chunk is sent to a client that is gone, so
    that no large image is read for nothing.
    """

    def __init__(self, answer: ImageAnswer, image: OpenedImage | None = None) -> None:
        super().__init__(status_code=answer.status)
        self.raw_headers = _raw(answer.headers)
        self._answer = answer
        self._image = image

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; reading stops as soon as the client is gone."""
        del receive
        with contextlib.suppress(ConnectionError), contextlib.closing(self._image or _NOTHING):
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            if scope["method"] != "HEAD":
                async for chunk in self._chunks():
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self) -> AsyncIterator[bytes]:
        if self._image is not None and self._answer.length:
            async for chunk in self._image.chunks(self._answer.start, self._answer.length):
                yield chunk


class _Nothing:
    def close(self) -> None:
        pass


_NOTHING: Final = _Nothing()


def _raw(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
