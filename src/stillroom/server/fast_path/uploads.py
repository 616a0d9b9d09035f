"""Uploads (POST of an image) on the fast path.

The body is passed directly to `ImageOperations.store`, without scope, routing or ASGI messages. The
ASGI path calls the same method.
"""

import logging
import time
from http import HTTPStatus
from typing import Final

from stillroom.api.images import ImageOperations
from stillroom.api.responses import escape_target, json_bytes, report_disconnect, report_error
from stillroom.auth.grants import Grant
from stillroom.auth.verified import VerifiedTokens
from stillroom.errors import StillroomError
from stillroom.http.fields import Fields, combined, format_http_date
from stillroom.http.problems import JSON_HEADERS, Problem, internal_error
from stillroom.paths import ImagePath
from stillroom.server.fast_path.reads import ASGI_ONLY_FIELDS, IMAGES_PREFIX, Headers, keeps_alive
from stillroom.server.http11.asgi import AsgiPath
from stillroom.server.http11.body import RequestBody
from stillroom.server.http11.exchange import ClientConnection, Exchange
from stillroom.server.http11.head import Request
from stillroom.telemetry import metrics, request_id
from stillroom.telemetry.logging import access_log, log_access

_ASGI_ONLY_FIELDS: Final = (ASGI_ONLY_FIELDS | {"expires-in"}) - {"content-length", "expect"}

log = logging.getLogger("stillroom.api")


class FastUploads:
    """Request handler for uploads. Passes all other requests to the ASGI path."""

    def __init__(
        self,
        operations: ImageOperations,
        tokens: VerifiedTokens,
        asgi: AsgiPath,
        extra_headers: Headers,
    ) -> None:
        self._operations = operations
        self._tokens = tokens
        self._asgi = asgi
        self._extra_headers = extra_headers

    def begin(self, connection: ClientConnection, request: Request, body: RequestBody) -> Exchange:
        """Start the task that handles a request."""
        upload = self._make_upload(connection, request, body)
        if upload is None:
            return self._asgi.begin(connection, request, body)
        connection.run(upload.run(self._operations))
        return upload

    def _make_upload(
        self, connection: ClientConnection, request: Request, body: RequestBody
    ) -> "UploadExchange | None":
        target = request.target
        if request.method != "POST" or not target.startswith(IMAGES_PREFIX) or b"?" in target:
            return None
        fields = combined(request.headers)
        if (
            "content-length" not in fields
            or not _ASGI_ONLY_FIELDS.isdisjoint(fields)
            or not keeps_alive(fields)
            or fields.get("expect", "100-continue").lower() != "100-continue"
        ):
            return None
        verified = self._tokens.verify_now(fields.get("authorization"))
        if verified is None or request.version == "1.0":
            return None
        try:
            path = ImagePath.from_target(target[len(IMAGES_PREFIX) :])
        except StillroomError:
            return None
        return UploadExchange(
            connection, request, body, fields, verified.grant, path, self._extra_headers
        )


class UploadExchange:
    """Upload in progress, whose token and path have been checked."""

    has_begun = False
    unsent_bytes = 0

    def __init__(  # noqa: PLR0917  (the only caller uses the same names)
        self,
        connection: ClientConnection,
        request: Request,
        body: RequestBody,
        fields: Fields,
        grant: Grant,
        path: ImagePath,
        extra_headers: Headers,
    ) -> None:
        self.keep_alive = request.keep_alive
        self._started = time.perf_counter()
        self._connection: ClientConnection | None = connection  # None after a disconnect
        self._client = connection.client
        self._target = request.target
        self._body = body
        self._fields = fields
        self._grant = grant
        self._path = path
        self._extra_headers = extra_headers
        client_id = request_id.from_client(request.headers)
        self._has_client_id = client_id is not None
        self._request_id = client_id or request_id.generate()

    def disconnect(self) -> None:
        """Stop sending, since the client has disconnected."""
        self._connection = None

    async def run(self, operations: ImageOperations) -> None:
        """Save the image and respond. It is cancelled if a shutdown takes too long."""
        request_id.current.set(self._request_id)
        metrics.begin()
        try:
            answer = await self._save(operations)
        except BaseException:
            if self._connection is not None:
                self._connection.drop()
            raise
        finally:
            metrics.end()
            metrics.count_received("save_image", self._body.received)
        metrics.count("save_image", answer.status, time.perf_counter() - self._started)
        if self._connection is not None:
            self._send(self._connection, answer)

    async def _save(self, operations: ImageOperations) -> Problem:
        try:
            saved = await operations.store(self._grant, self._path, self._fields, self._body)
        except StillroomError as error:
            return report_error("save_image", self._target, error)
        except ConnectionError:
            return report_disconnect("save_image", self._target)
        except Exception:
            log.exception("save_image %s", escape_target(self._target))
            return internal_error(self._request_id)
        content = json_bytes(saved)
        length = str(len(content))
        return Problem(200, [*JSON_HEADERS, ("content-length", length)], content)

    def _send(self, connection: ClientConnection, answer: Problem) -> None:
        self.keep_alive = self.keep_alive and self._body.is_complete
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in (*answer.headers, *self._extra_headers)]
        if self._has_client_id or answer.status >= 400:
            lines.append(f"{request_id.FIELD}: {self._request_id}")
        if not self.keep_alive:
            lines.append("connection: close")
        head = "\r\n".join(lines).encode("latin-1")
        date = format_http_date(time.time_ns()).encode()
        connection.write(b"%s\r\ndate: %s\r\n\r\n%s" % (head, date, answer.body))
        metrics.count_sent("save_image", len(answer.body))
        if access_log.isEnabledFor(logging.INFO):
            log_access(
                self._client, "POST", self._target.decode("ascii"), answer.status,
                operation="save_image", request_id=self._request_id, began=self._started,
                received=self._body.received, sent=len(answer.body),
            )  # fmt: skip
        connection.finish(self)
