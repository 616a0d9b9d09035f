"""Fast path of uploads: saves an image (POST) without a web framework."""

import functools
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from stillroom.errors import StillroomError
from stillroom.paths import ImagePath
from stillroom.speed.fast_path.reads import ASGI_ONLY_FIELDS, IMAGES_PREFIX, keeps_alive
from stillroom.speed.http11.body import RequestBody
from stillroom.speed.http11.connection import Connection
from stillroom.speed.http11.exchange import Begin, Exchange, RequestExchange
from stillroom.speed.http11.head import Request, header_lines
from stillroom.store.api.images import ImageOperations
from stillroom.store.api.responses import escape_target, json_bytes, report_disconnect, report_error
from stillroom.store.auth.verified import VerifiedTokens
from stillroom.store.http.fields import combined
from stillroom.store.http.problems import JSON_HEADERS, Problem, internal_error
from stillroom.store.telemetry import metrics, request_id

Headers = tuple[tuple[str, str], ...]
Store = Callable[[], Awaitable[dict[str, object]]]

UPLOAD_ASGI_ONLY_FIELDS: Final = ASGI_ONLY_FIELDS - {"content-length", "expect"}

log = logging.getLogger("stillroom.api")


@dataclass(frozen=True, slots=True)
class FastUploads:
    """Handler of uploads. It passes requests that are not simple uploads to `otherwise`."""

    operations: ImageOperations
    tokens: VerifiedTokens
    extra_headers: Headers  # added to each response
    otherwise: Begin  # starts to handle a request on the ASGI path
    asgi_only: frozenset[str]  # header fields with which a request takes the ASGI path

    def begin(self, connection: Connection, request: Request, body: RequestBody) -> Exchange:
        """Start a task that handles a request."""
        store = self._find_operation(request, body)
        if store is None:
            return self.otherwise(connection, request, body)
        upload = _UploadExchange(connection, request, body)
        connection.run(upload.run(store, self.extra_headers))
        return upload

    def _find_operation(self, request: Request, body: RequestBody) -> Store | None:
        target = request.target
        if request.method != "POST" or not target.startswith(IMAGES_PREFIX) or b"?" in target:
            return None
        fields = combined(request.headers)
        if (
            "content-length" not in fields
            or not self.asgi_only.isdisjoint(fields)
            or not keeps_alive(fields)
            or fields.get("expect", "100-continue").lower() != "100-continue"
        ):
            return None
        verified = self.tokens.verify_now(fields.get("authorization"))
        if verified is None or request.version == "1.0":
            return None
        try:
            path = ImagePath.from_target(target[len(IMAGES_PREFIX) :])
        except StillroomError:
            return None
        return functools.partial(self.operations.store, verified.grant, path, fields, body)


class _UploadExchange(RequestExchange):
    async def run(self, store: Store, extra_headers: Headers) -> None:
        request_id.current.set(self._request_id)
        metrics.begin()
        try:
            answer = await self._save(store)
        except BaseException:  # also if a slow shutdown cancels the task
            if self._connection is not None:
                self._connection.drop()
            raise
        finally:
            metrics.end()
            metrics.count_received("save_image", self._body.received)
        metrics.count("save_image", answer.status, time.perf_counter() - self._started)
        connection = self._connection  # a write that fails disconnects this exchange
        if connection is not None:
            lines = header_lines((*answer.headers, *extra_headers))
            connection.write(self._make_head(answer.status, lines) + answer.body)
            self._record("save_image", answer.status, len(answer.body))
            connection.finish(self)

    async def _save(self, store: Store) -> Problem:
        target = self._request.target
        try:
            saved = await store()
        except StillroomError as error:
            return report_error("save_image", target, error)
        except ConnectionError:
            return report_disconnect("save_image", target)
        except Exception:
            log.exception("save_image %s: unexpected error", escape_target(target))
            return internal_error(self._request_id)
        content = json_bytes(saved)
        return Problem(200, [*JSON_HEADERS, ("content-length", str(len(content)))], content)
