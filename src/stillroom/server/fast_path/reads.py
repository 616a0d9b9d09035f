"""GET and HEAD of images on the fast path, answered immediately from bounded caches.

The ASGI path (scope, task, routing, Response objects, chunked reading) takes ten times as long as
the kernel needs to send an image. The fast path splits a request into its line and the bytes after
it, and uses the bytes of each as a cache key:

- header fields that have passed the parser and all checks, with the grant of their token;
- request lines with a valid path, with the image's properties and the heads of responses;
- bodies of images, while the image is not replaced.

With separate keys, the size of the caches does not multiply with the number of tokens and user
agents. The token's expiration, its folder and the image are checked for each request. Both paths
use the same rules (`auth`, `paths`, `http.serving`, the storage). All requests that are not simple
take the ASGI path. See docs/adr/0009-simple-requests-take-a-fast-path.md.
"""

import logging
import os
import re
import time
from http import HTTPStatus
from typing import Final

from stillroom.api.images import ImageOperations
from stillroom.api.sendfile import OFFER, without_body
from stillroom.auth.verified import CACHE_S, VerifiedTokens
from stillroom.bounded_cache import BoundedCache
from stillroom.errors import ImageNotFound, PreconditionFailed, StillroomError
from stillroom.http.fields import Fields, combined, format_http_date
from stillroom.http.problems import problem
from stillroom.http.serving import ImageAnswer, answer_image, answer_redirect
from stillroom.paths import ImagePath, StorageKey
from stillroom.server.fast_path.answers import Answer, AnswerRecord
from stillroom.server.fast_path.lines import CheckedFields, Conditions, Line
from stillroom.server.fast_path.sendfile import FileExchange, FileSlice
from stillroom.server.http11.exchange import ClientConnection
from stillroom.server.http11.head import Request
from stillroom.storage.values import LocalImage, RemoteImage, StoredImage
from stillroom.telemetry import metrics, request_id
from stillroom.telemetry.logging import access_log

_LINE: Final = re.compile(
    rb"(GET|HEAD) /api/v1/storage/images/([\x21\x22\x24-\x3e\x40-\x7e]*) HTTP/1\.1"
)
"""Request line without a query. Requests with parameters or signatures take the ASGI path."""

IMAGES_PREFIX: Final = b"/api/v1/storage/images/"

ASGI_ONLY_FIELDS: Final = frozenset(
    (
        "content-length",
        "expect",
        "proxy-connection",  # the parser treats it as `Connection`
        "origin",  # CORS is handled on the ASGI path
        "transfer-encoding",
        "upgrade",
    )
)
"""Headers that the fast path does not support. Requests with one take the ASGI path."""

_CONDITIONS: Final = (
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "range",
    OFFER,
)
"""Headers on which responses depend. Requests with equal values get the same response."""

MAX_COPIED_BYTES: Final = 64 * 1024
"""Maximum size of images that are copied and sent together with the head. Larger images use
sendfile. With one connection, copying 100 KB is as fast as sendfile; with 32, it is 25% slower."""

_MAX_FIELDS_BYTES: Final = 8 * 1024**2
_MAX_LINES: Final = 16_384
"""Maximum number of cached lines (about 24 MiB). The storage caches metadata for as many images."""

_MAX_CONDITIONAL_BYTES: Final = 8 * 1024**2
"""Memory limit for cached responses to requests with conditions or ranges."""

_ENTRY_BYTES: Final = 1024
"""Approximate memory overhead of a cache entry in bytes."""

Headers = tuple[tuple[str, str], ...]

_OPERATION: Final = {"GET": "get_image", "HEAD": "check_image_exists"}


class FastReads:
    """Fast path for GET and HEAD, with the caches of one process."""

    longest_head = 4096

    def __init__(
        self,
        operations: ImageOperations,
        tokens: VerifiedTokens,
        *,
        longest_target: int,
        cache_bytes: int,
        extra_headers: Headers = (),
    ) -> None:
        """Create a fast path with empty caches.

        Targets longer than `longest_target` take the ASGI path. `cache_bytes` limits the cache for
        image bodies (0: no cache). `extra_headers` are added to all responses.
        """
        self._operations = operations
        self._storage = operations.storage
        self._sendfile = operations.sendfile
        self._tokens = tokens
        self._longest_target = longest_target
        self._extra_lines = "".join(f"{name}: {value}\r\n" for name, value in extra_headers)
        self._missing = {method: self._error(method, ImageNotFound()) for method in _OPERATION}
        self._checked_fields: BoundedCache[bytes, CheckedFields] = BoundedCache(_MAX_FIELDS_BYTES)
        self._conditional: BoundedCache[tuple[Line, Conditions], tuple[object, Answer]]
        self._conditional = BoundedCache(_MAX_CONDITIONAL_BYTES)
        self._whole: BoundedCache[Line, bytes] = BoundedCache(cache_bytes)
        self._lines: BoundedCache[bytes, Line] = BoundedCache(_MAX_LINES, self._whole.remove)
        self._keeps_bodies = cache_bytes > 0
        self._starts: dict[int, bytes] = {}
        self._second = 0  # the second for which `_starts` is valid
        self._logs_access = access_log.isEnabledFor(logging.INFO)

    def learn(self, connection: ClientConnection, data: bytes, request: Request) -> bool:
        """Respond to a request whose head passed all checks, and cache its header fields.

        `data` is the raw head, and `request` the parsed head. If the result is False, nothing was
        sent, and the request must take the ASGI path.
        """
        end = data.find(b"\r\n")
        if len(data) > self.longest_head or not _LINE.fullmatch(data, 0, end):
            return False
        fields = combined(request.headers)
        if not ASGI_ONLY_FIELDS.isdisjoint(fields) or not keeps_alive(fields):
            return False
        verified = self._operations.authorize_read_now(fields, self._tokens)
        bare = request_id.without_field(data, request.headers)
        if verified is None or bare is None or "storage:read" not in verified.grant.scopes:
            return False
        values = tuple(map(fields.get, _CONDITIONS))
        conditions = values if any(value is not None for value in values) else None
        checked = CheckedFields(fields, conditions, verified.grant, verified.until)
        self._checked_fields.put(bare[end:], checked, len(bare) + _ENTRY_BYTES)
        return self.answer(connection, data)

    def answer(self, connection: ClientConnection, data: bytes) -> bool:
        """Respond to a complete request head from the caches, without waiting.

        If the result is False, nothing was sent, and the request must take the ASGI path.
        """
        started = time.perf_counter()
        end = data.find(b"\r\n")
        client_id = b""
        checked = self._checked_fields.get(data[end:])
        if checked is None:
            checked, client_id = self._find_without_id(data, end)
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
        if answer.status >= 400 and not client_id:
            client_id = request_id.generate_bytes()
        id_line = b"x-request-id: %s\r\n" % client_id if client_id else b""
        second = int(now)
        if second != self._second:
            self._second, self._starts = second, {}
        start = self._starts.get(answer.status) or self._start(answer.status)
        if isinstance(body, FileSlice):
            if connection.has_unsent_bytes:
                body.image.close()
                return False
            metrics.count(answer.operation, answer.status, time.perf_counter() - started)
            record = AnswerRecord(connection.client, data, answer, client_id, started)
            head = b"".join((start, id_line, answer.head))
            FileExchange.start(connection, head, body, record)
            return True
        connection.write(b"".join((start, id_line, answer.head, body)))
        connection.note_response()
        metrics.count(answer.operation, answer.status, time.perf_counter() - started, sent)
        if self._logs_access:
            AnswerRecord(connection.client, data, answer, client_id, started).log(sent)
        return True

    def _start(self, status: int) -> bytes:
        """Return the cached status line and date header for the current second."""
        date = format_http_date(self._second * 10**9)
        start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ndate: {date}\r\n".encode()
        self._starts[status] = start
        return start

    def _find_without_id(self, data: bytes, end: int) -> tuple[CheckedFields | None, bytes]:
        """Return the cached fields and the request id, which is not part of the cache key."""
        field = request_id.find_field(data)
        if field is None:
            return None, b""
        return self._checked_fields.get(data[end : field.start] + data[field.end :]), field.id

    def _add_line(self, data: bytes, end: int) -> Line | None:
        """Parse and cache a request line. Return None if its path is invalid."""
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

    def _find(self, line: Line, checked: CheckedFields) -> "_Response | None":
        """Return the response, or None if that would require waiting."""
        image: StoredImage | None = None
        if isinstance(line.image, StoredImage):
            image = line.image
            response = self._find_cached(line, image, checked)
            if response is not None:
                return response
        elif line.is_missing and self._storage.is_missing(line.key):
            return _in_memory(self._missing[line.method])
        try:
            location = self._storage.locate_now(line.key, image)
        except ImageNotFound:
            line.use(None)
            return _in_memory(self._missing[line.method])
        except StillroomError:
            return None
        if location is None or isinstance(location, RemoteImage):
            return self._redirect(line, location)
        return self._open(line, checked, location)

    def _find_cached(
        self, line: Line, image: StoredImage, checked: CheckedFields
    ) -> "_Response | None":
        """Return the cached response, or None if the image was replaced."""
        cached = line.whole.value if line.whole else None
        if line.whole and cached is not None:
            line.whole.used = True
            if checked.conditions is None:
                return (_CACHED, cached, image.size) if self._storage.is_current(image) else None
        answer = self._cached_answer(line, checked.conditions)
        if answer is None:
            return None
        body: bytes | memoryview = answer.body
        if answer.proxy_head:
            name = self._pinned_name(image)
            if name is None:
                return None
            answer = answer.for_proxy(name)
        elif answer.length:
            if cached is None:
                return self._read(line, image, answer)
            start = len(cached) - image.size + answer.start
            body = memoryview(cached)[start : start + answer.length]
        return (answer, body, len(body)) if self._storage.is_current(image) else None

    def _read(self, line: Line, image: StoredImage, answer: Answer) -> "_Response | None":
        """Read and cache the body, since the image is requested for the second time."""
        if answer.length > MAX_COPIED_BYTES:
            return None
        body = _buffer[: answer.length]
        if not self._storage.read_now(image, answer.start, body):
            return None
        if self._keeps_bodies and answer is line.answer:
            whole = b"".join((answer.head, body))
            line.whole = self._whole.put(line, whole, len(whole) + _ENTRY_BYTES)
        return answer, body, answer.length

    def _open(self, line: Line, checked: CheckedFields, location: LocalImage) -> "_Response | None":
        """Return the response for an opened image. The file remains open only for sendfile."""
        image = location.image
        slice_: FileSlice | None = None
        try:
            if image is not line.image:
                line.use(image)
            answer = self._cached_answer(line, checked.conditions) or self._make(
                line, image, checked
            )
            if answer.proxy_head:
                # Without a pinned name, the ASGI path creates one.
                name = self._pinned_name(image)
                return _in_memory(answer.for_proxy(name)) if name else None
            if not answer.length:
                return _in_memory(answer)
            if answer.length > MAX_COPIED_BYTES:
                slice_ = FileSlice(location, answer.start, answer.length)
                return answer, slice_, answer.length
            body = _buffer[: answer.length]
            is_read = _read_now(location, answer.start, body)
            return (answer, body, answer.length) if is_read else None
        finally:
            if slice_ is None:
                location.close()

    def _redirect(self, line: Line, location: RemoteImage | None) -> "_Response | None":
        if location is None or line.method == "HEAD":
            return None
        if location is not line.image:
            line.use(location)
            line.answer = Answer("get_image", 302, self._head(answer_redirect(location)))
        return _in_memory(line.answer) if line.answer else None

    def _make(self, line: Line, image: StoredImage, checked: CheckedFields) -> Answer:
        """Create and cache the response to a request line and conditions."""
        try:
            cache_control = self._operations.cache_control
            image_answer = answer_image(
                line.method, checked.fields, image, cache_control=cache_control
            )
        except PreconditionFailed as error:
            answer = self._error(line.method, error)
        else:
            length = image_answer.length if line.method == "GET" else 0
            proxy_head = self._make_proxy_head(checked.fields, image_answer) if length else b""
            answer = Answer(
                _OPERATION[line.method], image_answer.status, self._head(image_answer), b"",
                image_answer.start, length, proxy_head,
            )  # fmt: skip
        self._cache(line, checked.conditions, answer)
        return answer

    def _cached_answer(self, line: Line, conditions: Conditions | None) -> Answer | None:
        """Return the cached response to a request line and conditions, or None if outdated."""
        if conditions is None:
            return line.answer
        entry = self._conditional.get((line, conditions))
        return entry[1] if entry is not None and entry[0] is line.image else None

    def _cache(self, line: Line, conditions: Conditions | None, answer: Answer) -> None:
        if conditions is None:
            line.answer = answer
            return
        size = sum(len(value) for value in conditions if value) + len(answer.head)
        size += len(answer.body)
        self._conditional.put((line, conditions), (line.image, answer), size + _ENTRY_BYTES)

    def _make_proxy_head(self, fields: Fields, answer: ImageAnswer) -> bytes:
        """Return the head for a proxy up to the image's name; empty if there is no proxy."""
        if self._sendfile is None or not self._sendfile.can_delegate(fields, answer):
            return b""
        *headers, (field, location) = without_body(answer, "").headers
        head = self._head(ImageAnswer(answer.status, headers)).removesuffix(b"\r\n")
        return b"%s%s: %s" % (head, field.encode("ascii"), location.encode("ascii"))

    def _pinned_name(self, image: StoredImage) -> str | None:
        return None if self._sendfile is None else self._sendfile.storage.known_name(image)

    def _error(self, method: str, error: StillroomError) -> Answer:
        report = problem(error)
        head = self._head(ImageAnswer(report.status, report.headers))
        body = report.body if method == "GET" else b""
        return Answer(_OPERATION[method], report.status, head, body)

    def _head(self, answer: ImageAnswer) -> bytes:
        lines = "".join([f"{name}: {value}\r\n" for name, value in answer.headers])
        return f"{lines}{self._extra_lines}\r\n".encode("latin-1")


_Response = tuple[Answer, bytes | memoryview | FileSlice, int]
"""Response, its body, and the length of the body."""

_CACHED: Final = Answer("get_image", HTTPStatus.OK, b"")
"""Marker for a cached response, whose body includes the head."""


def _in_memory(answer: Answer) -> _Response:
    return answer, answer.body, len(answer.body)


def keeps_alive(fields: Fields) -> bool:
    """Return whether an HTTP/1.1 request allows keep-alive, which is the default."""
    return fields.get("connection", "keep-alive").lower() == "keep-alive"


_buffer: Final = memoryview(bytearray(MAX_COPIED_BYTES))
"""Buffer for reading bodies, which are then copied and sent without yielding to the event loop."""


def _read_now(image: LocalImage, start: int, into: memoryview) -> bool:
    """Read without disk access (RWF_NOWAIT). Return False if not all bytes are cached."""
    try:
        return os.preadv(image.fileno(), [into], start, os.RWF_NOWAIT) == len(into)
    except OSError:  # EAGAIN: not in the page cache; EOPNOTSUPP: unsupported by the filesystem
        return False
