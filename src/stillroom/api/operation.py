"""How an operation runs inside FastAPI: on the raw request, with our own errors."""

import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, cast
from urllib.parse import quote, unquote

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from stillroom.api.responses import (
    OPERATION,
    SERVER_ERRORS,
    ProblemResponse,
    disconnected,
    refused,
)
from stillroom.auth.signed_urls import is_signed
from stillroom.errors import StillroomError
from stillroom.telemetry import metrics

Run = Callable[[Request], Awaitable[Response]]

IMAGE_PATH: Final = "/{path:image_path}"
"""The end of a route that takes an image's path."""

FOLDER_PATH: Final = "/{folder:image_path}"
"""The same for a folder of images, behind which a route may go on."""


class _AnyPath(Convertor[str]):
    """Whatever follows, line feeds too: a bad path must meet our check, not a router's 404."""

    regex = r"[\s\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("image_path", _AnyPath())


class OperationRoute(APIRoute):
    """Runs an operation on the raw request, its route spelled literally.

    FastAPI would decode the path leniently, the query leniently, and read the whole
    form before the operation's first line; each breaks a promise of ours. So it
    keeps the document and the routing, and the operation reads the request itself.
    See docs/adr/0001-fastapi-and-uvicorn.md.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler that FastAPI calls for this route."""
        operation = cast("Run", self.endpoint)
        name = self.name
        ends = self.path.rpartition("}")[2] if ":image_path}" in self.path else ""

        async def handle(request: Request) -> Response:
            began = time.perf_counter()
            request.scope[OPERATION] = name
            status = SERVER_ERRORS
            try:
                raw_image_path(request, ends=ends)  # 404s ahead of all else, as the router's own
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


async def _run(name: str, operation: Run, request: Request) -> Response:
    try:
        return await operation(request)
    except StillroomError as error:
        return ProblemResponse(refused(name, raw_target(request), error))
    except ClientDisconnect:
        return ProblemResponse(disconnected(name, raw_target(request)))


def raw_target(request: Request) -> bytes:
    """The path of the request as it came, never decoded, without its query."""
    raw = request.scope.get("raw_path")
    if raw is None:
        raise RuntimeError("the ASGI server gives no raw_path, so paths cannot be checked safely")
    return bytes(raw).partition(b"?")[0]


def raw_image_path(request: Request, *, ends: str = "") -> bytes:
    """What stands behind the route's own part of the raw target; empty if it takes no image path.

    Args:
        request: As it came.
        ends: What follows the image path in the route.

    Raises:
        HTTPException: 404, the route's part is spelled with escapes (`im%61ges`) or a line feed.
    """
    given = request.path_params
    image_path: str | None = given.get("path", given.get("folder"))
    decoded: str = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    own = decoded[: len(decoded) - len(image_path or "") - len(ends)]
    raw, literal, end = _behind_mount(request), _quoted(own), ends.encode("ascii")
    if "\n" in own or not raw.startswith(literal) or (image_path is None and raw != literal):
        raise HTTPException(404)
    found = raw[len(literal) :]
    if not found.endswith(end):
        raise HTTPException(404)
    return found[: len(found) - len(end)]


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
