"""FastAPI route class that passes raw requests to operations, and handles their exceptions."""

import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, cast
from urllib.parse import quote, unquote

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from stillroom.errors import StillroomError
from stillroom.store.api import responses
from stillroom.store.auth.signed_urls import is_signed
from stillroom.store.telemetry import metrics

Run = Callable[[Request], Awaitable[Response]]

IMAGE_PATH: Final = "/{path:image_path}"  # matches an image path at the end of a route


class _AnyPath(PathConvertor):
    regex = r"[\s\S]*"  # matches line feeds, too, so that the operation rejects them


register_url_convertor("image_path", _AnyPath())


class OperationRoute(APIRoute):
    """Route that passes the raw request to an operation (docs/adr/0001).

    FastAPI would accept malformed paths, and read the whole form before it calls the operation.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler that FastAPI calls for this route."""
        operation = cast("Run", self.endpoint)
        name = self.name
        suffix = self.path.rpartition("}")[2] if ":image_path}" in self.path else ""

        async def handle(request: Request) -> Response:
            started = time.perf_counter()
            request.scope[responses.OPERATION] = name
            status = responses.SERVER_ERRORS
            try:
                # A 404 takes precedence over other errors, as if the router had returned it.
                raw_image_path(request, suffix=suffix)
                response = await _run(name, operation, request)
                status = response.status_code
            except HTTPException as error:
                status = error.status_code
                raise
            finally:
                metrics.count(name, status, time.perf_counter() - started)
            if is_signed(request.scope["query_string"]):
                response.headers["referrer-policy"] = "no-referrer"
            return response

        return handle


async def _run(name: str, operation: Run, request: Request) -> Response:
    try:
        return await operation(request)
    except StillroomError as error:
        report = responses.report_error(name, raw_target(request), error)
    except ClientDisconnect:
        report = responses.report_disconnect(name, raw_target(request))
    return responses.ProblemResponse(report)


def raw_target(request: Request) -> bytes:
    """Return the undecoded path of a request, without the query."""
    raw = request.scope.get("raw_path")
    if raw is None:
        raise RuntimeError(
            "the ASGI server sets no raw_path in the scope, so paths cannot be checked safely: use "
            "a server that sets it, such as uvicorn"
        )
    return bytes(raw).partition(b"?")[0]


def raw_image_path(request: Request, *, suffix: str = "") -> bytes:
    """Return the undecoded image path or run folder of a request; empty if the route has none.

    `suffix` is the end of the route after the path. Raises HTTPException (404) if a fixed part of
    the route is percent-encoded in the request (`im%61ges`) or contains a line feed.
    """
    parameters = request.path_params
    image_path: str | None = parameters.get("path", parameters.get("folder"))
    decoded: str = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    prefix = decoded[: len(decoded) - len(image_path or "") - len(suffix)]
    raw, end = _without_mount(request), suffix.encode("ascii")
    literal = quote(prefix, safe="/:@!$&'()*+,;=~").encode("ascii")
    is_literal = raw.startswith(literal) and raw.endswith(end, len(literal))
    if "\n" in prefix or not is_literal or (image_path is None and raw != literal):
        raise HTTPException(404)
    return raw[len(literal) : len(raw) - len(end)]


def _without_mount(request: Request) -> bytes:
    raw = raw_target(request)
    root: str = request.scope.get("root_path", "")
    mount = b"/".join(raw.split(b"/", root.count("/") + 1)[: root.count("/") + 1])
    if unquote(mount.decode("latin-1")) != root:
        raise HTTPException(404)
    return raw[len(mount) :]
