"""Responses of operations: JSON, images and errors."""

import contextlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fastapi import Response
from starlette.types import Receive, Scope, Send

from stillroom.errors import FeatureOff, StillroomError
from stillroom.store.hooks import BodyDelegate
from stillroom.store.http.fields import Fields
from stillroom.store.http.problems import JSON_HEADERS, Problem, plain_problem, problem
from stillroom.store.http.serving import ImageAnswer, answer_image
from stillroom.store.telemetry import metrics, request_id
from stillroom.store.values import OpenedImage

SERVER_ERRORS: Final = 500
OPERATION: Final = "stillroom.operation"  # key of the operation's name in the ASGI scope

log = logging.getLogger("stillroom.api")


def json_answer(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a response with `content` as JSON."""
    return Response(json_bytes(content), status, headers={**dict(JSON_HEADERS), **(headers or {})})


def json_bytes(content: object) -> bytes:
    """Serialise `content` as JSON in UTF-8."""
    # Non-ASCII characters are not escaped, because names are UTF-8 on disk, too. Only lone
    # surrogates, which UTF-8 cannot encode, are escaped.
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


def report_error(name: str, target: bytes, error: StillroomError) -> Problem:
    """Return the response for an operation's exception. Log the exception if the status is 5xx."""
    report = problem(error, request_id.current.get())
    if report.status >= SERVER_ERRORS and not isinstance(error, FeatureOff):
        # Only the cause is logged. A traceback for every request would make the log unreadable.
        log.error(
            "%(operation)s %(target)s: %(error)s (%(cause)r)",
            {
                "operation": name,
                "target": escape_target(target),
                "status": report.status,
                "code": error.code,
                "error": error,
                "cause": error.__cause__,
            },
        )
    return report


def report_disconnect(name: str, target: bytes) -> Problem:
    """Log that the client disconnected. Return a response, as the framework expects one."""
    log.info(
        "%(operation)s %(target)s: the client disconnected",
        {"operation": name, "target": escape_target(target)},
    )
    return plain_problem(400, "the client disconnected", "disconnected")


def escape_target(target: bytes) -> str:
    """Return an undecoded path as text for the log. Non-ASCII bytes are escaped."""
    return target.decode("ascii", "backslashreplace")


class ProblemResponse(Response):
    """Error response with the body and headers of a `Problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.body, problem.status)
        self.raw_headers = _raw(problem.headers)


@dataclass(frozen=True)
class MethodNotAllowed:
    """ASGI application that responds 405. `allow` lists all methods of the path."""

    allow: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, and count it in the metrics."""
        metrics.count("method_not_allowed", 405)
        scope[OPERATION] = "method_not_allowed"
        message = f"{scope['method']} is not allowed here, only {self.allow}"
        report = plain_problem(405, message, "method_not_allowed")
        report.headers.append(("allow", self.allow))
        await ProblemResponse(report)(scope, receive, send)


class ImageResponse(Response):
    """Response with the bytes of an open image. The image is closed when the response ends."""

    def __init__(self, answer: ImageAnswer, image: OpenedImage | None = None) -> None:
        super().__init__(status_code=answer.status)
        self.raw_headers = _raw(answer.headers)
        self._answer = answer
        self._image = image

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response until it is complete or the client disconnects."""
        del receive
        start, length, headers = self._answer.start, self._answer.length, self.raw_headers
        closing = contextlib.closing(self._image) if self._image else contextlib.nullcontext()
        with contextlib.suppress(ConnectionError), closing as image:
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": headers}
            )
            if image is not None and length and scope["method"] != "HEAD":
                async for chunk in image.chunks(start, length):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def image_response(
    fields: Fields,
    image: OpenedImage,
    cache_control: str,
    delegate: BodyDelegate | None = None,
    *,
    method: str = "GET",
) -> Response:
    """Return the response to a GET or HEAD request for an image. The response closes the image."""
    try:
        answer = answer_image(method, fields, image.image, cache_control=cache_control)
        delegated = await delegate.delegate(fields, answer, image) if delegate else None
    except BaseException:
        image.close()
        raise
    if delegated is not None:
        image.close()
        return ImageResponse(delegated)
    return ImageResponse(answer, image)


def _raw(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
