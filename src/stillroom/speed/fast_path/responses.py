"""Responses of the fast path to GET and HEAD: images on a disk, or redirects to a bucket."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from stillroom.bounded_cache import BoundedCache, CacheEntry
from stillroom.errors import ImageNotFound, PreconditionFailed, StillroomError
from stillroom.paths import ImagePath, StorageKey
from stillroom.speed.capabilities import RedirectsNow, ServesNow
from stillroom.speed.fast_path.sendfile import FileSlice
from stillroom.speed.http11.head import header_lines
from stillroom.speed.proxy_sendfile import ProxySendfile, without_body
from stillroom.store.api.images import ImageOperations
from stillroom.store.auth.grants import Grant
from stillroom.store.http.fields import Fields
from stillroom.store.http.problems import problem
from stillroom.store.http.serving import ImageAnswer, answer_image, answer_redirect
from stillroom.store.values import LocalImage, RemoteImage, StoredImage

_MAX_COPIED_BYTES: Final = 64 * 1024
"""Maximum size of images that are read and sent together with the head. Larger images are sent with
sendfile(2), which is faster from about 100 KB on (by 25% with 32 connections)."""

_MAX_CONDITIONAL_BYTES: Final = 8 * 1024**2
ENTRY_BYTES: Final = 1024  # approximate memory overhead of a cache entry
_NAME: Final = b"\0"  # placeholder for the name of the file, in the head that makes a proxy send it
OPERATION: Final = {"GET": "get_image", "HEAD": "check_image_exists"}

Conditions = tuple[str | None, ...]


@dataclass(slots=True)
class Answer:
    """Cached part of a response: everything except the status line, the date and the request id.

    Instances must not be changed. They are not frozen, since that would triple the creation time.
    """

    operation: str
    status: int
    head: bytes  # header lines, including the empty line after them
    body: bytes = b""  # response body of an error
    start: int = 0  # offset of the part of the image that is sent as the body
    length: int = 0  # length of that part; 0 if `body` is sent instead
    proxy_head: bytes = b""  # head that makes a proxy send that part of the file `_NAME`


Response = tuple[Answer, bytes | memoryview | FileSlice, int]
"""Response of the fast path: its cached part, the body, and the body's length in bytes."""

_CACHED: Final = Answer("get_image", HTTPStatus.OK, b"")  # the cached body includes the head


@dataclass(frozen=True, slots=True)
class CheckedFields:
    """Header fields that have passed all checks, with the permissions of their token."""

    fields: Fields
    conditions: Conditions | None  # values of conditional headers; None if there are none
    grant: Grant
    until: float  # time (epoch seconds) until which the token counts as checked


@dataclass(slots=True, eq=False)
class Line:
    """Valid request line, with the response that is cached for the current version of the image.

    This object contains everything that a typical response needs. With thousands of lines, each
    lookup in a further dictionary would be a CPU cache miss.
    """

    method: str
    path: ImagePath
    key: StorageKey
    image: StoredImage | RemoteImage | None = None
    is_missing: bool = False  # True if the last lookup found no image
    answer: Answer | None = None  # response to requests without conditions
    whole: CacheEntry[bytes] | None = None  # head of `answer`, followed by the whole image

    def use(self, image: StoredImage | RemoteImage | None) -> None:
        """Set the image (None: it is missing), and drop the cached response."""
        self.image, self.is_missing = image, image is None
        self.answer = self.whole = None


FindResponse = Callable[[Line, CheckedFields], Response | None]  # None: use the ASGI path


def redirects(storage: RedirectsNow, last_lines: bytes) -> FindResponse:
    """Return a function that redirects requests to a bucket. All heads end with `last_lines`."""

    def find(line: Line, _: CheckedFields) -> Response | None:
        location = storage.redirect_now(line.key) if line.method == "GET" else None
        if location is None:
            return None
        if location is not line.image or line.answer is None:
            line.use(location)
            head = header_lines(answer_redirect(location).headers) + last_lines
            line.answer = Answer("get_image", 302, head)
        return _in_memory(line.answer)

    return find


class FileResponses:
    """Responses for images on a disk. Their heads and bodies are cached.

    The bodies use at most `cache_bytes` of memory (0: no cache). All heads end with `last_lines`.
    """

    def __init__(
        self,
        storage: ServesNow,
        operations: ImageOperations,
        last_lines: bytes,
        *,
        cache_bytes: int,
    ) -> None:
        self._storage = storage
        self._cache_control = operations.cache_control
        delegate = operations.hooks.body
        self._sendfile = delegate if isinstance(delegate, ProxySendfile) else None
        self._last_lines = last_lines
        self._missing = {method: self._error(method, ImageNotFound()) for method in OPERATION}
        self._conditional: BoundedCache[tuple[Line, Conditions], tuple[object, Answer]]
        self._conditional = BoundedCache(_MAX_CONDITIONAL_BYTES)
        self._whole: BoundedCache[Line, bytes] = BoundedCache(cache_bytes)
        self._keeps_bodies = cache_bytes > 0

    def find(self, line: Line, checked: CheckedFields) -> Response | None:
        """Return the response, or None if the ASGI application must handle the request."""
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
        return self._open(line, checked, location)

    def forget(self, line: Line) -> None:
        """Remove the image that is cached for a request line."""
        self._whole.remove(line)

    def _find_cached(
        self, line: Line, image: StoredImage, checked: CheckedFields
    ) -> Response | None:
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
            return self._delegate(answer, image) if self._storage.is_current(image) else None
        if answer.length:
            if cached is None:
                return self._read(line, image, answer)
            start = len(cached) - image.size + answer.start
            body = memoryview(cached)[start : start + answer.length]
        return (answer, body, len(body)) if self._storage.is_current(image) else None

    def _read(self, line: Line, image: StoredImage, answer: Answer) -> Response | None:
        if answer.length > _MAX_COPIED_BYTES:
            return None
        body = _buffer[: answer.length]
        if not self._storage.read_now(image, answer.start, body):
            return None
        if self._keeps_bodies and answer is line.answer:
            whole = b"".join((answer.head, body))
            line.whole = self._whole.put(line, whole, len(whole) + ENTRY_BYTES)
        return answer, body, answer.length

    def _open(self, line: Line, checked: CheckedFields, location: LocalImage) -> Response | None:
        image = location.image
        slice_: FileSlice | None = None  # if it is set, the file remains open
        try:
            if image is not line.image:
                line.use(image)
            answer = self._cached_answer(line, checked.conditions) or self._make(
                line, image, checked
            )
            if answer.proxy_head:
                return self._delegate(answer, image)
            if not answer.length:
                return _in_memory(answer)
            if answer.length > _MAX_COPIED_BYTES:
                slice_ = FileSlice(location, answer.start, answer.length)
                return answer, slice_, answer.length
            body = _buffer[: answer.length]
            is_read = _read_now(location, answer.start, body)
            return (answer, body, answer.length) if is_read else None
        finally:
            if slice_ is None:
                location.close()

    def _make(self, line: Line, image: StoredImage, checked: CheckedFields) -> Answer:
        try:
            image_answer = answer_image(
                line.method, checked.fields, image, cache_control=self._cache_control
            )
        except PreconditionFailed as error:
            answer = self._error(line.method, error)
        else:
            length = image_answer.length if line.method == "GET" else 0
            proxy_head = self._make_proxy_head(checked.fields, image_answer) if length else b""
            answer = Answer(
                OPERATION[line.method], image_answer.status, self._head(image_answer.headers), b"",
                image_answer.start, length, proxy_head,
            )  # fmt: skip
        self._cache(line, checked.conditions, answer)
        return answer

    def _cached_answer(self, line: Line, conditions: Conditions | None) -> Answer | None:
        if conditions is None:
            return line.answer
        entry = self._conditional.get((line, conditions))
        return entry[1] if entry is not None and entry[0] is line.image else None

    def _cache(self, line: Line, conditions: Conditions | None, answer: Answer) -> None:
        if conditions is None:
            line.answer = answer
            return
        size = sum(map(len, (answer.head, answer.body, *filter(None, conditions))))
        self._conditional.put((line, conditions), (line.image, answer), size + ENTRY_BYTES)

    def _make_proxy_head(self, fields: Fields, answer: ImageAnswer) -> bytes:
        if self._sendfile is None or not self._sendfile.can_delegate(fields, answer):
            return b""
        return self._head(without_body(answer, _NAME.decode()).headers)

    def _delegate(self, answer: Answer, image: StoredImage) -> Response | None:
        """Return a response that makes a proxy send the image, or None if no hard link exists."""
        name = self._sendfile and self._sendfile.storage.known_name(image)
        if not name:
            return None  # the ASGI path creates the name
        head = answer.proxy_head.replace(_NAME, name.encode("ascii"))
        return Answer(answer.operation, answer.status, head), b"", 0

    def _error(self, method: str, error: StillroomError) -> Answer:
        report = problem(error)
        body = report.body if method == "GET" else b""
        return Answer(OPERATION[method], report.status, self._head(report.headers), body)

    def _head(self, headers: list[tuple[str, str]]) -> bytes:
        return header_lines(headers) + self._last_lines


def _in_memory(answer: Answer) -> Response:
    return answer, answer.body, len(answer.body)


_buffer: Final = memoryview(bytearray(_MAX_COPIED_BYTES))
"""Buffer for one image, which is sent before the event loop handles another request."""


def _read_now(image: LocalImage, start: int, into: memoryview) -> bool:
    try:
        return os.preadv(image.fileno(), [into], start, os.RWF_NOWAIT) == len(into)
    except OSError:  # EAGAIN: not in the page cache; EOPNOTSUPP: unsupported by the filesystem
        return False
