"""Batch of reads: one request returns what the gallery shows of all folders on the screen."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field

from stillroom.errors import InvalidParameter
from stillroom.store.api.forms import JsonForm, read_json, validate
from stillroom.store.api.operation import OperationRoute, raw_target
from stillroom.store.api.responses import json_answer
from stillroom.store.http.fields import combined

_PATHS: Final = ("storage/images", "storage/runs", "storage/search")
_CONCURRENT_READS: Final = 8
_BODY_FIELDS: Final = (b"content-length", b"content-type", b"transfer-encoding")
_COPIED: Final = ("type", "asgi", "http_version", "scheme", "server", "client", "root_path")


class BatchRequest(JsonForm, max_bytes=256 * 1024, example='{"targets": ["storage/images?…"]}'):
    """Request body: paths, relative to the API, and queries of the responses to return."""

    targets: Annotated[list[str], Field(max_length=60)]


async def read_batch(request: Request) -> Response:
    """Return the responses to several GET requests. Each is made with the token of this request."""
    content = await read_json(request, combined(request.headers.raw), BatchRequest)
    targets = validate(BatchRequest, content).targets
    for target in targets:
        if target.partition("?")[0] not in _PATHS or not target.isascii():
            raise InvalidParameter(f"can only read {', '.join(_PATHS)}", at=("body", "targets"))
    slots = asyncio.Semaphore(_CONCURRENT_READS)

    async def result(target: str) -> dict[str, object]:
        async with slots:
            return await _read(request, target)

    results = await asyncio.gather(*map(result, targets))
    return json_answer({"results": results}, headers={"cache-control": "no-store"})


async def _read(request: Request, target: str) -> dict[str, object]:
    """Send a GET request to the application itself."""
    path, _, query = target.partition("?")
    given = request.scope
    scope = {name: given[name] for name in _COPIED if name in given} | {
        "method": "GET",
        "path": given["path"].removesuffix("batch") + path,
        "raw_path": raw_target(request).removesuffix(b"batch") + path.encode(),
        "query_string": query.encode(),
        "headers": [field for field in given["headers"] if field[0] not in _BODY_FIELDS],
        "state": dict(given.get("state", {})),
    }
    status, body = 0, bytearray()

    async def receive() -> dict[str, object]:
        return {"type": "http.request"}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status
        status = message.get("status", status)
        body.extend(message.get("body", b""))

    await request.app(scope, receive, send)
    return {"status": status, "body": json.loads(body)}


def batch_router() -> APIRouter:
    """Return the route `POST /batch`, which is not in the OpenAPI document."""
    router = APIRouter(include_in_schema=False, route_class=OperationRoute)
    router.add_api_route("/batch", read_batch, methods=["POST"])
    return router
