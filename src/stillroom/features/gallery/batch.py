"""Batches of reads: the gallery reads all folders that it shows with one request."""

import asyncio
import json
import logging
import re
from collections.abc import MutableMapping
from typing import Annotated, Any, Final

from fastapi import Request, Response
from pydantic import Field
from starlette.datastructures import Headers

from stillroom.concurrently import map_concurrently
from stillroom.errors import InvalidParameter, TooLarge
from stillroom.store.api.call import Call
from stillroom.store.api.forms import JsonForm
from stillroom.store.api.operation import Run, raw_target
from stillroom.store.auth.grants import Authorize
from stillroom.store.http.problems import JSON_HEADERS

_PATHS: Final = ("storage/images", "storage/runs", "storage/search", "media-resources")
_CONCURRENT_READS: Final = 8
_MAX_BYTES: Final = 4 * 1024 * 1024  # total size of all responses
_NOT_COPIED: Final = re.compile(rb"content-.*|transfer-encoding|accept-encoding|expect|range|if-.*")
_COPIED: Final = ("type", "asgi", "http_version", "scheme", "server", "client", "root_path")

log = logging.getLogger("stillroom.api")


class BatchRequest(JsonForm, max_bytes=256 * 1024, example='{"targets": ["storage/images?…"]}'):
    """Request body: URLs to read, relative to the API, such as `storage/images?prefix=cats/`."""

    targets: Annotated[list[Annotated[str, Field(max_length=2048)]], Field(max_length=60)]


class _Reads:
    """GET requests that the application sends to itself, with a limit for their total size."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._size = 0

    async def read(self, target: str) -> bytes:
        """Return status and body of a response as JSON. Raises `TooLarge` after too many bytes."""
        start: dict[str, Any] = {"status": 0, "headers": []}
        body = bytearray()
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> MutableMapping[str, Any]:
            return messages.pop() if messages else await asyncio.Future()

        async def send(message: MutableMapping[str, Any]) -> None:
            start.update(message if message["type"] == "http.response.start" else {})
            piece = message.get("body", b"")
            self._size += len(piece)
            if self._size <= _MAX_BYTES:
                body.extend(piece)

        try:
            await self._request.app(self._scope(target), receive, send)
        except Exception:
            log.exception("a request of a batch failed")
            body.clear()
        if self._size > _MAX_BYTES:
            raise TooLarge(
                f"the responses together exceed {_MAX_BYTES} bytes: send smaller batches"
            )
        kind = Headers(raw=list(start["headers"])).get("content-type", "")
        if not body or not kind.startswith("application/json"):
            return b'{"status":502,"body":null}'
        return b'{"status":%d,"body":%b}' % (start["status"], bytes(body))

    def _scope(self, target: str) -> dict[str, object]:
        path, _, query = target.partition("?")
        outer = self._request.scope
        return {name: outer[name] for name in _COPIED if name in outer} | {
            "method": "GET",
            "path": outer["path"].removesuffix("batch") + path,
            "raw_path": raw_target(self._request).removesuffix(b"batch") + path.encode(),
            "query_string": query.encode(),
            "headers": [pair for pair in outer["headers"] if not _NOT_COPIED.fullmatch(pair[0])],
            "state": dict(outer.get("state", {})),
        }


def batch_operation(authorize: Authorize) -> Run:
    """Return the handler of `POST /batch`, which sends the reads to the application.

    The response also has the client's permissions, in the form of the claims of a token.
    """

    async def read_batch(request: Request) -> Response:
        call = await Call.of(request, authorize)
        targets = (await call.json(BatchRequest)).targets
        for target in targets:
            if target.partition("?")[0] not in _PATHS or not target.isascii():
                raise InvalidParameter(f"can only read {', '.join(_PATHS)}", at=("body", "targets"))
        results = await map_concurrently(_Reads(request).read, targets, limit=_CONCURRENT_READS)
        headers = {**dict(JSON_HEADERS), "cache-control": "no-store"}
        claims = {"scope": " ".join(sorted(call.grant.scopes)), "prefix": call.grant.folder}
        body = b'{"claims":%b,"results":[%b]}' % (json.dumps(claims).encode(), b",".join(results))
        return Response(body, headers=headers)

    return read_batch
