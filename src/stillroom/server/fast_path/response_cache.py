"""What is known of requests that were made before: GET and HEAD of an image that is at hand.

The ASGI path (a scope, a task, FastAPI's routing, Response objects, the file in pieces)
costs ten times what the kernel needs to send an image. Here a head that was checked once in
full, by the parser and by `protocol`, is known again by its bytes, and everything that
follows from it alone is remembered with it: who asks, for which key, what HTTP makes of its
fields. What can change is looked at each time: the token's end, and the image itself.

Both roads use the same rules, `auth`, `paths`, `http.serving` and the storage, so there is
one answer to a request; whatever is not simple takes the ASGI path. See
docs/adr/0009-the-fast-path.md.
"""

import re
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from stillroom.api.images import ImageOperations
from stillroom.auth.grants import Grant
from stillroom.auth.signed_urls import READER
from stillroom.auth.verified import REMEMBERED_S, Verified, VerifiedTokens
from stillroom.errors import ImageNotFound, PreconditionFailed, StillroomError
from stillroom.http.fields import Fields, combined
from stillroom.http.problems import problem
from stillroom.http.serving import ImageAnswer, answer_image, answer_redirect
from stillroom.paths import ImagePath, StorageKey
from stillroom.server.fast_path.answer_cache import (
    JOINED_BYTES,
    Answer,
    AnswerCache,
    CachedResponse,
    SharedFile,
    dated,
    read_cached,
)
from stillroom.storage.values import LocalImage, RemoteImage, StoredImage
from stillroom.telemetry.request_id import FIELD, MADE_BYTES

_LINE: Final = re.compile(
    rb"(GET|HEAD) /api/v1/storage/images/([\x21\x22\x24-\x3e\x40-\x7e]*) HTTP/1\.1"
)
"""No query: parameters and signatures are the ASGI path's matter."""

PREFIX: Final = b"/api/v1/storage/images/"

LONG_ROAD_FIELDS: Final = frozenset(
    (
        "content-length",
        "expect",
        "proxy-connection",  # the parser reads it as `Connection`
        "origin",  # CORS is the ASGI path's matter
        "transfer-encoding",
        "upgrade",
    )
)

_LONGEST_HEAD: Final = 4096
_MAX_HEADS: Final = 1024
_MAX_REQUESTS: Final = 2048
"""With `_LONGEST_HEAD` at most some 12 MiB in a process."""

Headers = tuple[tuple[str, str], ...]

_OPERATION: Final = {"GET": "get_image", "HEAD": "check_image_exists"}


@dataclass(slots=True, eq=False)
class _KnownHead:
    """The fields of a head that passed every check, and the rights that they carry."""

    fields: Fields
    grant: Grant
    until: float


@dataclass(slots=True, eq=False)
class _KnownRequest:
    """A request that was made before, and the answer to it as long as the image is the same."""

    head: _KnownHead
    method: str
    key: StorageKey
    image: StoredImage | None = None
    place: RemoteImage | None = None
    status: int = 0
    answer: bytes = b""
    start: int = 0
    length: int = 0
    ready: CachedResponse | None = None
    held: SharedFile | None = None
    is_missing: bool = False

    def understand(self, image: StoredImage, cache_control: str, also: Headers) -> None:
        """What HTTP makes of the request, now that its image is this one.

        Raises:
            PreconditionFailed: it demands another one.
        """
        self.ready = self.image = None
        if self.held is not None:  # of the image that was there before
            self.held.close()
            self.held = None
        found = answer_image(self.method, self.head.fields, image, cache_control=cache_control)
        self.answer, self.status = _head(found, also), found.status
        self.start, self.length = found.start, found.length
        if self.length == 0 or self.method == "HEAD":
            self.ready = CachedResponse(_OPERATION[self.method], self.status, self.answer)
        self.image, self.is_missing = image, False

    def slice_of(self, image: SharedFile, now: float) -> Answer:
        """The answer with an open image."""
        sent = dated(self.answer, int(now))
        return Answer("get_image", self.status, sent, image, self.start, self.length, self.length)


class ResponseCache:
    """What one process remembers of the heads that it has seen."""

    def __init__(
        self,
        operations: ImageOperations,
        tokens: VerifiedTokens,
        *,
        longest_target: int,
        also: Headers = (),
    ) -> None:
        """Know nothing yet.

        Args:
            operations: What answers on the ASGI path.
            tokens: Those that were checked a moment ago.
            longest_target: Longer ones are refused on the ASGI path.
            also: Fields of every answer, which the ASGI path adds outside of `operations`.
        """
        self._operations = operations
        self._longest_target = longest_target
        self._storage = operations.storage
        self._tokens = tokens
        self._also = also
        self._missing = {method: _refusal(method, ImageNotFound(), also) for method in _OPERATION}
        self._heads: dict[bytes, _KnownHead] = {}
        self._requests: dict[bytes, _KnownRequest] = {}
        self._keeping = AnswerCache()

    def learn(self, request: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
        """Remember a head that has passed every check of the ASGI path.

        Args:
            request: The bytes of one head, from its first to its last.
            headers: The same head's fields, as the parser found them.

        Returns:
            Whether `answer` may be asked about it now.
        """
        end = request.find(b"\r\n")
        if (
            len(request) > _LONGEST_HEAD
            or request.find(b"\r\n\r\n") != len(request) - 4
            or not _LINE.fullmatch(request, 0, end)
        ):
            return False
        fields = combined(headers)
        if not LONG_ROAD_FIELDS.isdisjoint(fields):
            return False
        if not stays_open(fields):
            return False
        known = self._rights(fields.get("authorization"))
        if known is None:
            return False
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        self._heads[request[end:]] = _KnownHead(fields, *known)
        return True

    def _rights(self, authorization: str | None) -> Verified | None:
        """As `ImageOperations.reader` decides, where that takes no work."""
        if not self._operations.public_read:
            return self._tokens.known(authorization)
        if authorization is None:
            return Verified(READER, time.time() + REMEMBERED_S)
        known = self._tokens.known(authorization)
        return known and Verified(READER, known.until)

    def answer(self, request: bytes, now: float) -> Answer | None:
        """The answer to a request, if its head is known and all that it needs is at hand.

        An image in it is the caller's to close. `now` is in seconds since the epoch.
        """
        known = self._requests.get(request) or self._understood(request)
        if known is None:
            return None
        left = known.head.until - now
        if not 0 < left <= REMEMBERED_S:  # more: the clock was set back
            del self._requests[request]
            return None
        if known.image is not None and self._storage.is_current(known.image):
            if known.ready is not None:
                return known.ready.at(int(now))
            if known.held is not None:
                return known.slice_of(known.held.again(), now)
        elif known.is_missing and self._storage.is_missing(known.key):
            return self._missing[known.method].at(int(now))
        return self._looked_up(known, now)

    def _looked_up(self, known: _KnownRequest, now: float) -> Answer | None:
        try:
            location = self._storage.locate_now(known.key)
        except ImageNotFound:
            known.image, known.is_missing = None, True
            return self._missing[known.method].at(int(now))
        except StillroomError:
            return None
        if location is None or isinstance(location, RemoteImage):
            return _redirect(known, location, now, self._also)
        return self._local(known, location, now)

    def _local(self, known: _KnownRequest, location: LocalImage, now: float) -> Answer:
        try:
            if location.image is not known.image:
                known.understand(location.image, self._operations.cache_control, self._also)
            elif known.ready is None and self._storage.is_current(location.image):
                return self._kept(known, location, now)
        except PreconditionFailed as error:
            location.close()
            return _refusal(known.method, error, self._also).at(int(now))
        except BaseException:
            location.close()
            raise
        if known.ready is not None:
            location.close()
            return known.ready.at(int(now))
        return known.slice_of(SharedFile(location), now)

    def _kept(self, known: _KnownRequest, location: LocalImage, now: float) -> Answer:
        """The answer to what was asked for before, kept for the next time."""
        held = SharedFile(location)
        if known.length > JOINED_BYTES:
            self._keeping.keep_open(known, held)
            return known.slice_of(held, now)
        body = memoryview(bytearray(known.length))
        if not read_cached(held, body, known.start):
            return known.slice_of(held, now)
        held.close()
        ready = CachedResponse("get_image", known.status, known.answer, body)
        self._keeping.keep_whole(known, ready)
        return ready.at(int(now))

    def _understood(self, request: bytes) -> _KnownRequest | None:
        """A request that was not made before, under a head that is known."""
        end = request.find(b"\r\n")
        head = self._heads.get(request[end:])
        if head is None or len(request) > _LONGEST_HEAD:
            return None
        line = _LINE.fullmatch(request, 0, end)
        if line is None or len(PREFIX) + len(line[2]) > self._longest_target:
            return None
        try:
            path = ImagePath.from_target(line[2])
            head.grant.require("storage:read", path)
        except StillroomError:
            return None
        known = _KnownRequest(head, line[1].decode("ascii"), StorageKey.of_image(path))
        if len(self._requests) >= _MAX_REQUESTS:
            self._requests.clear()
            self._keeping.forget()
        self._requests[request] = known
        return known


def stays_open(fields: Fields) -> bool:
    """Whether a request of HTTP/1.1 says nothing about its connection but that it goes on."""
    return fields.get("connection", "keep-alive").lower() == "keep-alive"


def _redirect(
    known: _KnownRequest, location: RemoteImage | None, now: float, also: Headers
) -> Answer | None:
    if location is None or known.method == "HEAD":
        return None
    if known.ready is None or location is not known.place:
        known.ready = CachedResponse("get_image", 302, _head(answer_redirect(location), also))
        known.place = location
    return known.ready.at(int(now))


def _refusal(method: str, error: StillroomError, also: Headers) -> CachedResponse:
    found = problem(error)
    head = _head(ImageAnswer(found.status, found.headers), also)
    return CachedResponse(
        _OPERATION[method], found.status, head, found.body if method == "GET" else b""
    )


def _head(answer: ImageAnswer, also: Headers) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in (*answer.headers, *also)]
    if answer.status >= 400:
        lines.append(
            f"{FIELD}: {'0' * MADE_BYTES}"
        )  # `CachedResponse` puts another one there each time
    return "\r\n".join(lines).encode("latin-1") + b"\r\ndate: "
