"""How an operation runs inside FastAPI: on the raw request, with our own errors."""

import asyncio
import concurrent.futures
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar, cast
from urllib.parse import quote, unquote

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from stillroom.api.faults import sentence_of
from stillroom.auth.signed_urls import is_signed
from stillroom.errors import InvalidParameter, StillroomError, TooLarge, UnsupportedMedia
from stillroom.http.fields import Fields
from stillroom.http.json_objects import TooManyValuesError, parse_object
from stillroom.http.problems import Problem, plain_problem, problem
from stillroom.http.serving import ImageAnswer
from stillroom.storage.values import OpenedImage
from stillroom.telemetry import metrics, request_id

Form = TypeVar("Form", bound=BaseModel)
Operation = Callable[[Request], Awaitable[Response]]

SERVER_ERRORS: Final = 500

_PARSED_AT_ONCE_BYTES: Final = 64 * 1024
"""A larger body is parsed in a thread, while the event loop serves others."""

_parsing: Final = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="json")
"""One: each more that computes makes the event loop wait for another slice of 5 ms."""

_SHOWN_NAME: Final = 64
"""Of a name that is not known, so many characters are told."""

OPERATION: Final = "stillroom.operation"
"""Where a request's scope says which operation it has reached."""

log = logging.getLogger("stillroom.api")


class _AnyPath(Convertor[str]):
    """Whatever follows, line feeds too: a bad path must meet our check, not a router's 404."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("image_path", _AnyPath())


class OperationRoute(APIRoute):
    """Documents an operation by its signature, and runs it on the raw request.

    FastAPI would decode the path leniently, the query leniently, and read the whole
    form before the operation's first line; each breaks a promise of ours. So it
    keeps the document and the routing, and the operation reads the request itself.
    See docs/adr/0001-fastapi-and-uvicorn.md.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler that FastAPI calls for this route."""
        operation = cast("Operation", self.endpoint)
        name = self.name

        async def handle(request: Request) -> Response:
            began = time.perf_counter()
            request.scope[OPERATION] = name
            status = SERVER_ERRORS
            try:
                response = await _run(name, operation, request)
                status = response.status_code
            except HTTPException as error:
                status = error.status_code
                raise
            finally:
                metrics.count(name, status, time.perf_counter() - began)
            if is_signed(request.scope["query_string"]):
                response.headers["referrer-policy"] = "no-referrer"
            return response

        return handle


async def _run(name: str, operation: Operation, request: Request) -> Response:
    try:
        return await operation(request)
    except StillroomError as error:
        return ProblemResponse(refused(name, raw_target(request), error))
    except ClientDisconnect:
        log_gone(name, raw_target(request))
        return ProblemResponse(plain_problem(400, "the client went away", "disconnected"))


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


def log_gone(name: str, target: bytes) -> None:
    """Log that the client has gone before its answer."""
    log.info(
        "%(operation)s %(target)s: the client went away",
        {"operation": name, "target": shown_target(target)},
    )


def shown_target(target: bytes) -> str:
    """A raw target as a log shows it, which escapes what would begin another line."""
    return target.decode("ascii", "backslashreplace")


def raw_target(request: Request) -> bytes:
    """The path of the request as it came, never decoded, without its query."""
    raw = request.scope.get("raw_path")
    if raw is None:
        raise RuntimeError("the ASGI server gives no raw_path, so paths cannot be checked safely")
    return bytes(raw).partition(b"?")[0]


def raw_image_path(request: Request) -> bytes:
    """What stands behind the route's own prefix in the raw target.

    Raises:
        HTTPException: 404, the prefix itself was spelled with escapes (`im%61ges`).
    """
    decoded: str = request.scope["path"]
    raw = _behind_mount(request)
    prefix = decoded[: len(decoded) - len(request.path_params["path"])]
    literal = _quoted(prefix.removeprefix(request.scope.get("root_path", "")))
    if not raw.startswith(literal):
        raise HTTPException(404)
    return raw[len(literal) :]


def require_literal_route(request: Request) -> None:
    """Refuse a route without parameters that was spelled with escapes, or with a line feed.

    Raises:
        HTTPException: 404.
    """
    decoded: str = request.scope["path"]
    own = decoded.removeprefix(request.scope.get("root_path", ""))
    if "\n" in own or _behind_mount(request) != _quoted(own):
        raise HTTPException(404)


async def json_object(
    request: Request, fields: Fields, *, max_bytes: int, example: str
) -> dict[str, object]:
    """The JSON object that a request's body is.

    Ask for it when it is known that the sender may do what the operation does.

    Raises:
        InvalidParameter: the body is none, or holds more than any operation takes.
        TooLarge: it has more than `max_bytes`.
        UnsupportedMedia: it says it is something else; the message shows the `example`.
    """
    too_large = TooLarge(f"the list is larger than {max_bytes} bytes: send it in parts")
    if int(fields.get("content-length", "0")) > max_bytes:
        raise too_large
    if fields.get("content-type", "").partition(";")[0].strip(" \t").lower() != "application/json":
        raise UnsupportedMedia(f"send {example} with Content-Type: application/json")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > max_bytes:
            raise too_large
    try:
        if len(body) <= _PARSED_AT_ONCE_BYTES:
            return parse_object(bytes(body))
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_parsing, parse_object, bytes(body))
    except TooManyValuesError as error:
        raise InvalidParameter(f"the object holds {error}", at=("body",)) from None
    except ValueError:
        raise InvalidParameter("not a JSON object", at=("body",)) from None


def in_form(form: type[Form], given: dict[str, object]) -> Form:
    """A JSON object as what the document says it is.

    Raises:
        InvalidParameter: it is not of this form; says where.
    """
    # Pydantic would write a whole error for each of thousands of names, where one is enough.
    unknown = next((name for name in given if name not in form.model_fields), None)
    if unknown is not None:
        shown = unknown[:_SHOWN_NAME]
        raise InvalidParameter("no such field", at=("body", shown))
    try:
        return form.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        at = ("body", *(str(part) for part in fault["loc"]))
        raise InvalidParameter(sentence_of(fault), at=at) from error


def _behind_mount(request: Request) -> bytes:
    """The raw target without the app's mount point, which may be spelled in any way."""
    raw = raw_target(request)
    root: str = request.scope.get("root_path", "")
    mount = b"/".join(raw.split(b"/", root.count("/") + 1)[: root.count("/") + 1])
    if unquote(mount.decode("latin-1")) != root:
        raise HTTPException(404)
    return raw[len(mount) :]


def _quoted(text: str) -> bytes:
    return quote(text, safe="/:@!$&'()*+,;=~").encode("ascii")


class ProblemResponse(Response):
    """An answer that says what went wrong."""

    def __init__(self, found: Problem) -> None:
        super().__init__(found.body, found.status)
        self.raw_headers = _raw(found.headers)


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
