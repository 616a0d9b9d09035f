"""Fast path of GET and HEAD of images: immediate responses from two caches (docs/adr/0009).

One cache maps the bytes of a request line to the image's properties, the response head and the
body. The other cache maps the bytes of header fields that have passed all checks to the permissions
of their token. Each request still checks that the token has not expired and permits reading the
folder, and that the image has not changed. The ASGI application handles other requests.
"""

import logging
import re
import time
from collections.abc import Callable
from typing import Final

from stillroom.bounded_cache import BoundedCache
from stillroom.errors import StillroomError
from stillroom.paths import ImagePath, StorageKey
from stillroom.speed.fast_path.responses import ENTRY_BYTES, CheckedFields, FindResponse, Line
from stillroom.speed.fast_path.sendfile import AnswerRecord, FileExchange, FileSlice
from stillroom.speed.http11.connection import Connection
from stillroom.speed.http11.head import Request, start_of_head
from stillroom.speed.proxy_sendfile import OFFER
from stillroom.store.api.images import ImageOperations
from stillroom.store.auth.verified import CACHE_S, VerifiedTokens
from stillroom.store.http.fields import Fields, combined
from stillroom.store.http.serving import ANSWER_FIELDS
from stillroom.store.telemetry import metrics, request_id
from stillroom.store.telemetry.logging import access_log

# Request line without a query. The ASGI application handles requests with a query.
_LINE: Final = re.compile(
    rb"(GET|HEAD) /api/v1/storage/images/([\x21\x22\x24-\x3e\x40-\x7e]*) HTTP/1\.1"
)

IMAGES_PREFIX: Final = b"/api/v1/storage/images/"

ASGI_ONLY_FIELDS: Final = frozenset(
    ("content-length", "expect", "proxy-connection", "origin", "transfer-encoding", "upgrade")
)
"""Header fields of requests that the ASGI application handles, such as `Origin` for CORS."""

_CONDITIONS: Final = (*ANSWER_FIELDS, OFFER)  # header fields on which responses depend
_MAX_FIELDS_BYTES: Final = 8 * 1024**2
_MAX_LINES: Final = 32_768  # 48 MiB; the storage caches metadata for as many images


class FastReads:
    """Handler of simple GET and HEAD requests for images, with the caches of one process.

    `find` returns the response to a request that has passed all checks. `forget` is called with
    each request line that is evicted from the cache. A request whose target is longer than
    `longest_target` bytes is handled by the ASGI application.
    """

    longest_head = 4096

    def __init__(
        self,
        operations: ImageOperations,
        tokens: VerifiedTokens,
        find: FindResponse,
        forget: Callable[[Line], None] | None = None,
        *,
        longest_target: int,
    ) -> None:
        self._operations = operations
        self._tokens = tokens
        self._find = find
        self._longest_target = longest_target
        self._checked_fields: BoundedCache[bytes, CheckedFields] = BoundedCache(_MAX_FIELDS_BYTES)
        self._lines: BoundedCache[bytes, Line] = BoundedCache(_MAX_LINES, forget)
        self._logs_access = access_log.isEnabledFor(logging.INFO)

    def learn(self, connection: Connection, data: bytes, request: Request) -> bool:
        """Cache the header fields of a valid request head, and respond to the request.

        Return False if nothing was sent. Then the ASGI application must handle the request.
        """
        end = data.find(b"\r\n")
        if len(data) > self.longest_head or not _LINE.fullmatch(data, 0, end):
            return False
        fields = combined(request.headers)
        if not ASGI_ONLY_FIELDS.isdisjoint(fields) or not keeps_alive(fields):
            return False
        verified = self._operations.authorize_read_now(fields, self._tokens)
        bare = request_id.without_field(data, fields.get("x-request-id"))
        if verified is None or bare is None:
            return False
        values = tuple(map(fields.get, _CONDITIONS))
        conditions = values if any(value is not None for value in values) else None
        checked = CheckedFields(fields, conditions, verified.grant, verified.until)
        self._checked_fields.put(bare[end:], checked, len(bare) + ENTRY_BYTES)
        return self.answer(connection, data)

    def answer(self, connection: Connection, data: bytes) -> bool:
        """Respond to a request head from the caches. Return False if nothing was sent."""
        started = time.perf_counter()
        end, client_id = data.find(b"\r\n"), b""
        checked = self._checked_fields.get(data[end:])
        if checked is None and (field := request_id.find_field(data)) is not None:
            client_id = field.id
            checked = self._checked_fields.get(data[end : field.start] + data[field.end :])
        now = time.time()
        # More than `CACHE_S` means that the clock was set back.
        if checked is None or not 0 < checked.until - now <= CACHE_S:
            return False
        line = self._lines.get(data[:end]) or self._add_line(data, end)
        if line is None or not checked.grant.covers(line.path):
            return False
        response = self._find(line, checked)
        if response is None:
            return False
        answer, body, sent = response
        operation, status = answer.operation, answer.status
        if status >= 400 and not client_id:
            client_id = request_id.generate().encode()
        id_line = b"x-request-id: %s\r\n" % client_id if client_id else b""
        start = start_of_head(status, int(now))
        if isinstance(body, FileSlice):
            if connection.has_unsent_bytes:
                body.image.close()
                return False
            metrics.count(operation, status, time.perf_counter() - started)
            record = AnswerRecord(connection.client, data, operation, status, client_id, started)
            head = b"".join((start, id_line, answer.head))
            FileExchange(connection, head, body, record).start()
            return True
        connection.write(b"".join((start, id_line, answer.head, body)))
        connection.note_response()
        metrics.count(operation, status, time.perf_counter() - started, sent)
        if self._logs_access:
            record = AnswerRecord(connection.client, data, operation, status, client_id, started)
            record.log(sent)
        return True

    def _add_line(self, data: bytes, end: int) -> Line | None:
        match = _LINE.fullmatch(data, 0, end)
        if match is None or len(IMAGES_PREFIX) + len(match[2]) > self._longest_target:
            return None
        try:
            path = ImagePath.from_target(match[2])
        except StillroomError:
            return None
        line = Line(match[1].decode("ascii"), path, StorageKey.of_image(path))
        self._lines.put(data[:end], line)
        return line


def keeps_alive(fields: Fields) -> bool:
    """Return whether an HTTP/1.1 request allows keep-alive, which is the default."""
    return fields.get("connection", "keep-alive").lower() == "keep-alive"
