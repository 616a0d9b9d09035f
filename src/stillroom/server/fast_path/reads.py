"""GET and HEAD of images on the fast path, answered at once and from bounded caches.

The ASGI path (a scope, a task, routing, Response objects, the file in pieces) costs ten times
what the kernel needs to send an image. Here a request is two parts, its line and the bytes
behind it, and each is looked up by its bytes:

- the fields, once the parser and all checks have passed them: the rights of their token;
- the line, once the path rules have passed it: the image's facts, and the heads of its answers;
- the image's body, as long as it is the same save.

So tokens and agents do not multiply what is kept. What can change is checked each time: the
token's expiry, the folder that it is confined to, and the image itself. Both paths use the
same rules (`auth`, `paths`, `http.serving`, the storage); what is not simple takes the ASGI
path. See docs/adr/0009-the-fast-path.md.
"""

import logging
import os
import re
import time
from http import HTTPStatus
from typing import Final

from stillroom.api.images import ImageOperations
from stillroom.api.sendfile import OFFER, without_body
from stillroom.auth.verified import REMEMBERED_S, VerifiedTokens
from stillroom.bounded_cache import BoundedCache
from stillroom.errors import ImageNotFound, PreconditionFailed, StillroomError
from stillroom.http.fields import Fields, combined, format_http_date
from stillroom.http.problems import problem
from stillroom.http.serving import ImageAnswer, answer_image, answer_redirect
from stillroom.paths import ImagePath, StorageKey
from stillroom.server.fast_path.answers import Answer, AnswerRecord
from stillroom.server.fast_path.lines import Conditions, Line, Rights
from stillroom.server.fast_path.sendfile import FileExchange, FileSlice
from stillroom.server.http11.exchange import ClientConnection
from stillroom.server.http11.head import Request
from stillroom.storage.values import LocalImage, RemoteImage, StoredImage
from stillroom.telemetry import metrics, request_id
from stillroom.telemetry.logging import access_log

_LINE: Final = re.compile(
    rb"(GET|HEAD) /api/v1/storage/images/([\x21\x22\x24-\x3e\x40-\x7e]*) HTTP/1\.1"
)
"""A request line without a query: parameters and signatures take the ASGI path."""

IMAGES_PREFIX: Final = b"/api/v1/storage/images/"

ASGI_ONLY_FIELDS: Final = frozenset(
    (
        "content-length",
        "expect",
        "proxy-connection",  # the parser reads it as `Connection`
        "origin",  # CORS is answered on the ASGI path
        "transfer-encoding",
        "upgrade",
    )
)
"""A request with one of these takes the ASGI path."""

_CONDITIONS: Final = (
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "range",
    OFFER,
)
"""The fields that answers depend on: two requests with the same ones have the same answer."""

MAX_COPIED_BYTES: Final = 64 * 1024
"""Up to this an image is copied behind its head and sent in one call; beyond, sendfile copies it.
Alone a copy of 100 KB costs no more, but among 32 busy connections a quarter more than sendfile."""

_MAX_FIELDS_BYTES: Final = 8 * 1024**2
_MAX_LINES: Final = 16_384
"""Some 24 MiB; the storage remembers the facts of as many."""

_MAX_CONDITIONAL_BYTES: Final = 8 * 1024**2
"""Of answers to conditions and ranges, whose texts clients choose: up to 4 KiB for each."""

_ENTRY_BYTES: Final = 1024
"""What an entry takes beside its bytes, roughly."""

Headers = tuple[tuple[str, str], ...]

_OPERATION: Final = {"GET": "get_image", "HEAD": "check_image_exists"}


class FastReads:
    """Requests and answers, cached in one process."""

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
        """Begin empty.

        Args:
            operations: What answers on the ASGI path.
            tokens: Those that were checked a moment ago.
            longest_target: Longer request targets are refused on the ASGI path.
            cache_bytes: Of the bodies of images, each up to `MAX_COPIED_BYTES`; 0 keeps none.
            extra_headers: Of every answer; the ASGI path adds them outside of `operations`.
        """
        self._operations = operations
        self._storage = operations.storage
        self._sendfile = operations.sendfile
        self._tokens = tokens
        self._longest_target = longest_target
        self._extra_lines = "".join(f"{name}: {value}\r\n" for name, value in extra_headers)
        self._missing = {method: self._error(method, ImageNotFound()) for method in _OPERATION}
        self._rights: BoundedCache[bytes, Rights] = BoundedCache(_MAX_FIELDS_BYTES)
        self._conditional: BoundedCache[tuple[Line, Conditions], tuple[object, Answer]]
        self._conditional = BoundedCache(_MAX_CONDITIONAL_BYTES)
        self._whole: BoundedCache[Line, bytes] = BoundedCache(cache_bytes)
        self._lines: BoundedCache[bytes, Line] = BoundedCache(_MAX_LINES, self._whole.remove)
        self._keeps_bodies = cache_bytes > 0
        self._starts: dict[int, bytes] = {}
        self._second = 0  # of the dates in them
        self._logs_access = access_log.isEnabledFor(logging.INFO)

    def learn(self, connection: ClientConnection, data: bytes, request: Request) -> bool:
        """Remember the fields of a head that has passed all checks, and answer it.

        Args:
            connection: Where it came.
            data: All bytes of the head, and no others.
            request: The same, parsed.

        Returns:
            False: it takes the ASGI path.
        """
        end = data.find(b"\r\n")
        if len(data) > self.longest_head or not _LINE.fullmatch(data, 0, end):
            return False
        fields = combined(request.headers)
        if not ASGI_ONLY_FIELDS.isdisjoint(fields) or not keeps_alive(fields):
            return False
        known = self._operations.known_reader(fields, self._tokens)
        bare = request_id.without_field(data, request.headers)
        if known is None or bare is None or "storage:read" not in known.grant.scopes:
            return False
        conditions = tuple(map(fields.get, _CONDITIONS))
        given = conditions if any(one is not None for one in conditions) else None
        rights = Rights(fields, given, known.grant, known.until)
        self._rights.put(bare[end:], rights, len(bare) + _ENTRY_BYTES)
        return self.answer(connection, data)

    def answer(self, connection: ClientConnection, data: bytes) -> bool:
        """Answer a whole head without waiting for anything.

        Returns:
            False: it takes the ASGI path; nothing was sent.
        """
        began = time.perf_counter()
        end = data.find(b"\r\n")
        client_id = b""
        rights = self._rights.get(data[end:])
        if rights is None:
            rights, client_id = self._rights_beside_id(data, end)
        now = time.time()
        # More than that is left: the clock was set back.
        if rights is None or not 0 < rights.until - now <= REMEMBERED_S:
            return False
        line = self._lines.get(data[:end]) or self._add_line(data, end)
        if line is None or not rights.grant.covers(line.path):
            return False
        found = self._find(line, rights)
        if found is None:
            return False
        answer, body, sent = found
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
            metrics.count(answer.operation, answer.status, time.perf_counter() - began)
            record = AnswerRecord(connection.client, data, answer, client_id, began)
            head = b"".join((start, id_line, answer.head))
            FileExchange.start(connection, head, body, record)
            return True
        connection.write(b"".join((start, id_line, answer.head, body)))
        connection.answered()
        metrics.count(answer.operation, answer.status, time.perf_counter() - began, sent)
        if self._logs_access:
            AnswerRecord(connection.client, data, answer, client_id, began).log(sent)
        return True

    def _start(self, status: int) -> bytes:
        """The first lines of answers with this status in this second."""
        date = format_http_date(self._second * 10**9)
        start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ndate: {date}\r\n".encode()
        self._starts[status] = start
        return start

    def _rights_beside_id(self, data: bytes, end: int) -> tuple[Rights | None, bytes]:
        """The rights of a head with a request id, which is another one each time, and the id."""
        found = request_id.find_field(data)
        if found is None:
            return None, b""
        return self._rights.get(data[end : found.start] + data[found.end :]), found.id

    def _add_line(self, data: bytes, end: int) -> Line | None:
        """Remember a request line whose path follows the rules."""
        found = _LINE.fullmatch(data, 0, end)
        if found is None or len(IMAGES_PREFIX) + len(found[2]) > self._longest_target:
            return None
        try:
            path = ImagePath.from_target(found[2])
        except StillroomError:
            return None
        line = Line(found[1].decode("ascii"), path, StorageKey.of_image(path))
        self._lines.put(data[:end], line)
        return line

    def _find(self, line: Line, rights: Rights) -> "_Found | None":
        """The answer and its body, if neither must be waited for."""
        known: StoredImage | None = None
        if isinstance(line.image, StoredImage):
            known = line.image
            found = self._find_known(line, known, rights)
            if found is not None:
                return found
        elif line.is_missing and self._storage.is_missing(line.key):
            return _in_memory(self._missing[line.method])
        try:
            location = self._storage.locate_now(line.key, known)
        except ImageNotFound:
            line.use(None)
            return _in_memory(self._missing[line.method])
        except StillroomError:
            return None
        if location is None or isinstance(location, RemoteImage):
            return self._redirect(line, location)
        return self._open(line, rights, location)

    def _find_known(self, line: Line, image: StoredImage, rights: Rights) -> "_Found | None":
        """The answer that was made before, if it is still the same save."""
        kept = line.whole.value if line.whole else None
        if line.whole and kept is not None:
            line.whole.used = True
            if rights.conditions is None:
                return (_KEPT, kept, image.size) if self._storage.is_current(image) else None
        answer = self._known_answer(line, rights.conditions)
        if answer is None:
            return None
        body: bytes | memoryview = answer.body
        if answer.handed_over:
            name = self._known_name(image)
            if name is None:
                return None
            answer = answer.naming(name)
        elif answer.length:
            if kept is None:
                return self._read(line, image, answer)
            start = len(kept) - image.size + answer.start
            body = memoryview(kept)[start : start + answer.length]
        return (answer, body, len(body)) if self._storage.is_current(image) else None

    def _read(self, line: Line, image: StoredImage, answer: Answer) -> "_Found | None":
        """The answer with its body from the file; it is kept, since it was asked for again."""
        if answer.length > MAX_COPIED_BYTES:
            return None
        body = _buffer[: answer.length]
        if not self._storage.read_now(image, answer.start, body):
            return None
        if self._keeps_bodies and answer is line.answer:
            whole = b"".join((answer.head, body))
            line.whole = self._whole.put(line, whole, len(whole) + _ENTRY_BYTES)
        return answer, body, answer.length

    def _open(self, line: Line, rights: Rights, location: LocalImage) -> "_Found | None":
        """The answer from a file; it stays open only for a slice that is sent from it."""
        image = location.image
        slice_: FileSlice | None = None
        try:
            if image is not line.image:
                line.use(image)
            answer = self._known_answer(line, rights.conditions) or self._make(line, image, rights)
            if answer.handed_over:
                name = self._known_name(image)
                return _in_memory(answer.naming(name)) if name else None  # the ASGI path names it
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

    def _redirect(self, line: Line, location: RemoteImage | None) -> "_Found | None":
        if location is None or line.method == "HEAD":
            return None
        if location is not line.image:
            line.use(location)
            line.answer = Answer("get_image", 302, self._head(answer_redirect(location)))
        return _in_memory(line.answer) if line.answer else None

    def _make(self, line: Line, image: StoredImage, rights: Rights) -> Answer:
        """The answer to a line with these conditions; it is remembered."""
        try:
            cache_control = self._operations.cache_control
            found = answer_image(line.method, rights.fields, image, cache_control=cache_control)
        except PreconditionFailed as error:
            answer = self._error(line.method, error)
        else:
            length = found.length if line.method == "GET" else 0
            handed = self._handed_over(rights.fields, found) if length else b""
            answer = Answer(
                _OPERATION[line.method], found.status, self._head(found), b"",
                found.start, length, handed,
            )  # fmt: skip
        self._remember(line, rights.conditions, answer)
        return answer

    def _known_answer(self, line: Line, conditions: Conditions | None) -> Answer | None:
        """What was answered to a request with these conditions, while the image is the same."""
        if conditions is None:
            return line.answer
        found = self._conditional.get((line, conditions))
        return found[1] if found is not None and found[0] is line.image else None

    def _remember(self, line: Line, conditions: Conditions | None, answer: Answer) -> None:
        """Answer so again."""
        if conditions is None:
            line.answer = answer
            return
        size = sum(len(one) for one in conditions if one) + len(answer.head) + len(answer.body)
        self._conditional.put((line, conditions), (line.image, answer), size + _ENTRY_BYTES)

    def _handed_over(self, fields: Fields, answer: ImageAnswer) -> bytes:
        """The head for a proxy, up to the image's name; empty where none sends it."""
        if self._sendfile is None or not self._sendfile.suits(fields, answer):
            return b""
        *headers, (field, location) = without_body(answer, "").headers
        head = self._head(ImageAnswer(answer.status, headers)).removesuffix(b"\r\n")
        return b"%s%s: %s" % (head, field.encode("ascii"), location.encode("ascii"))

    def _known_name(self, image: StoredImage) -> str | None:
        return None if self._sendfile is None else self._sendfile.storage.known_name(image)

    def _error(self, method: str, error: StillroomError) -> Answer:
        found = problem(error)
        head = self._head(ImageAnswer(found.status, found.headers))
        body = found.body if method == "GET" else b""
        return Answer(_OPERATION[method], found.status, head, body)

    def _head(self, answer: ImageAnswer) -> bytes:
        lines = "".join([f"{name}: {value}\r\n" for name, value in answer.headers])
        return f"{lines}{self._extra_lines}\r\n".encode("latin-1")


_Found = tuple[Answer, bytes | memoryview | FileSlice, int]
"""An answer, its body, and how long that is."""

_KEPT: Final = Answer("get_image", HTTPStatus.OK, b"")
"""An answer that is kept whole: its head is in its body."""


def _in_memory(answer: Answer) -> _Found:
    return answer, answer.body, len(answer.body)


def keeps_alive(fields: Fields) -> bool:
    """Whether a request of HTTP/1.1 asks for keep-alive, or says nothing about it."""
    return fields.get("connection", "keep-alive").lower() == "keep-alive"


_buffer: Final = memoryview(bytearray(MAX_COPIED_BYTES))
"""Where bodies are read to: each is copied behind its head at once."""


def _read_now(image: LocalImage, start: int, into: memoryview) -> bool:
    """Read without waiting for the disk (RWF_NOWAIT); False: it must be waited for."""
    try:
        return os.preadv(image.fileno(), [into], start, os.RWF_NOWAIT) == len(into)
    except OSError:  # EAGAIN: not in the cache; EOPNOTSUPP: this filesystem cannot tell
        return False
