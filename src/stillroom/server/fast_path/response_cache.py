"""The response cache of the fast path: GET and HEAD requests that were made before, by their bytes.

The ASGI path (a scope, a task, FastAPI's routing, Response objects, the file in pieces)
costs ten times what the kernel needs to send an image. Here a head that was checked once in
full, by the parser and by `protocol`, is looked up by its bytes, and everything that
follows from it alone is cached with it: the rights of its token, the key, the response head.
What can change is checked each time: the token's expiry, and the image itself.

Both paths use the same rules, `auth`, `paths`, `http.serving` and the storage, so there is
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
    MAX_COPIED_BYTES,
    Answer,
    AnswerCache,
    CachedResponse,
    CacheEntry,
    SharedFile,
    read_from_page_cache,
    with_date,
)
from stillroom.storage.values import LocalImage, RemoteImage, StoredImage
from stillroom.telemetry.request_id import FIELD, GENERATED_BYTES

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

_LONGEST_HEAD: Final = 4096
_MAX_HEADS: Final = 1024
_MAX_REQUESTS: Final = 2048
"""With `_LONGEST_HEAD` at most some 12 MiB in a process."""

Headers = tuple[tuple[str, str], ...]

_OPERATION: Final = {"GET": "get_image", "HEAD": "check_image_exists"}


@dataclass(slots=True, eq=False)
class _CheckedHead:
    """The fields of a head that passed every check, with the rights of its token."""

    fields: Fields
    grant: Grant
    expires_at: float


@dataclass(slots=True, eq=False)
class _CachedRequest(CacheEntry):
    """A request that was made before, and the response to it as long as the image is the same.

    Attributes:
        redirected_to: Where `response`, a 302, points to.
        response_head: Up to the value of its Date field.
        start: Of the slice of the image that is the body.
        is_missing: The image did not exist when it was last looked for.
    """

    head: _CheckedHead
    method: str
    key: StorageKey
    image: StoredImage | None = None
    redirected_to: RemoteImage | None = None
    status: int = 0
    response_head: bytes = b""
    start: int = 0
    length: int = 0
    is_missing: bool = False

    def use_image(self, image: StoredImage, cache_control: str, extra_headers: Headers) -> None:
        """Work out status, head and slice of the response, now that the image is this one.

        Raises:
            PreconditionFailed: the request demands another image.
        """
        self.response = self.image = None
        if self.file is not None:  # of the image that was there before
            self.file.close()
            self.file = None
        found = answer_image(self.method, self.head.fields, image, cache_control=cache_control)
        self.response_head, self.status = _head(found, extra_headers), found.status
        self.start, self.length = found.start, found.length
        if self.length == 0 or self.method == "HEAD":
            self.response = CachedResponse(_OPERATION[self.method], self.status, self.response_head)
        self.image, self.is_missing = image, False

    def with_file(self, image: SharedFile, now: float) -> Answer:
        """The answer with a slice of an open image as its body."""
        data = with_date(self.response_head, int(now))
        return Answer("get_image", self.status, data, image, self.start, self.length, self.length)


class ResponseCache:
    """Requests and their responses, cached in one process."""

    def __init__(
        self,
        operations: ImageOperations,
        tokens: VerifiedTokens,
        *,
        longest_target: int,
        extra_headers: Headers = (),
    ) -> None:
        """Begin empty.

        Args:
            operations: What answers on the ASGI path.
            tokens: Those that were checked a moment ago.
            longest_target: Longer request targets are refused on the ASGI path.
            extra_headers: Of every response; the ASGI path adds them outside of `operations`.
        """
        self._operations = operations
        self._longest_target = longest_target
        self._storage = operations.storage
        self._tokens = tokens
        self._extra_headers = extra_headers
        self._missing = {
            method: _error_response(method, ImageNotFound(), extra_headers) for method in _OPERATION
        }
        self._heads: dict[bytes, _CheckedHead] = {}
        self._requests: dict[bytes, _CachedRequest] = {}
        self._answers = AnswerCache()

    def remember(self, request: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
        """Cache a head that has passed every check of the ASGI path.

        Args:
            request: All bytes of one head.
            headers: The same head's fields, as the parser found them.

        Returns:
            Whether `get` may be asked about it now.
        """
        end = request.find(b"\r\n")
        if (
            len(request) > _LONGEST_HEAD
            or request.find(b"\r\n\r\n") != len(request) - 4
            or not _LINE.fullmatch(request, 0, end)
        ):
            return False
        fields = combined(headers)
        if not ASGI_ONLY_FIELDS.isdisjoint(fields):
            return False
        if not keeps_alive(fields):
            return False
        rights = self._rights(fields.get("authorization"))
        if rights is None:
            return False
        if len(self._heads) >= _MAX_HEADS:
            self._heads.clear()
        self._heads[request[end:]] = _CheckedHead(fields, *rights)
        return True

    def _rights(self, authorization: str | None) -> Verified | None:
        """As `ImageOperations.reader` decides, where that takes no work."""
        if not self._operations.public_read:
            return self._tokens.known(authorization)
        if authorization is None:
            return Verified(READER, time.time() + REMEMBERED_S)
        known = self._tokens.known(authorization)
        return known and Verified(READER, known.until)

    def get(self, request: bytes, now: float) -> Answer | None:
        """The answer to a request, if its head is cached and nothing has to be waited for.

        The caller closes an image in it. `now` is in seconds since the epoch.
        """
        cached = self._requests.get(request) or self._add(request)
        if cached is None:
            return None
        left = cached.head.expires_at - now
        if not 0 < left <= REMEMBERED_S:  # more: the clock was set back
            del self._requests[request]
            return None
        if cached.image is not None and self._storage.is_current(cached.image):
            if cached.response is not None:
                return cached.response.at_second(int(now))
            if cached.file is not None:
                return cached.with_file(cached.file.share(), now)
        elif cached.is_missing and self._storage.is_missing(cached.key):
            return self._missing[cached.method].at_second(int(now))
        return self._locate(cached, now)

    def _locate(self, cached: _CachedRequest, now: float) -> Answer | None:
        """Look for the image in the storage, as far as that takes no waiting."""
        try:
            location = self._storage.locate_now(cached.key)
        except ImageNotFound:
            cached.image, cached.is_missing = None, True
            return self._missing[cached.method].at_second(int(now))
        except StillroomError:
            return None
        if location is None or isinstance(location, RemoteImage):
            return _redirect_to(cached, location, now, self._extra_headers)
        return self._from_disk(cached, location, now)

    def _from_disk(self, cached: _CachedRequest, location: LocalImage, now: float) -> Answer:
        try:
            if location.image is not cached.image:
                cached.use_image(
                    location.image, self._operations.cache_control, self._extra_headers
                )
            elif cached.response is None and self._storage.is_current(location.image):
                return self._cache_image(cached, location, now)
        except PreconditionFailed as error:
            location.close()
            return _error_response(cached.method, error, self._extra_headers).at_second(int(now))
        except BaseException:
            location.close()
            raise
        if cached.response is not None:
            location.close()
            return cached.response.at_second(int(now))
        return cached.with_file(SharedFile(location), now)

    def _cache_image(self, cached: _CachedRequest, location: LocalImage, now: float) -> Answer:
        """The answer to what was asked for before; its body, or its open file, is cached."""
        file = SharedFile(location)
        if cached.length > MAX_COPIED_BYTES:
            self._answers.add_file(cached, file)
            return cached.with_file(file, now)
        body = memoryview(bytearray(cached.length))
        if not read_from_page_cache(file, body, cached.start):
            return cached.with_file(file, now)
        file.close()
        response = CachedResponse("get_image", cached.status, cached.response_head, body)
        self._answers.add_response(cached, response)
        return response.at_second(int(now))

    def _add(self, request: bytes) -> _CachedRequest | None:
        """Cache a request that was not made before, with a head that is cached."""
        end = request.find(b"\r\n")
        head = self._heads.get(request[end:])
        if head is None or len(request) > _LONGEST_HEAD:
            return None
        line = _LINE.fullmatch(request, 0, end)
        if line is None or len(IMAGES_PREFIX) + len(line[2]) > self._longest_target:
            return None
        try:
            path = ImagePath.from_target(line[2])
            head.grant.require("storage:read", path)
        except StillroomError:
            return None
        cached = _CachedRequest(head, line[1].decode("ascii"), StorageKey.of_image(path))
        if len(self._requests) >= _MAX_REQUESTS:
            self._requests.clear()
            self._answers.clear_responses()
        self._requests[request] = cached
        return cached


def keeps_alive(fields: Fields) -> bool:
    """Whether a request of HTTP/1.1 asks for keep-alive, or says nothing about it."""
    return fields.get("connection", "keep-alive").lower() == "keep-alive"


def _redirect_to(
    cached: _CachedRequest, location: RemoteImage | None, now: float, extra_headers: Headers
) -> Answer | None:
    if location is None or cached.method == "HEAD":
        return None
    if cached.response is None or location is not cached.redirected_to:
        cached.response = CachedResponse(
            "get_image", 302, _head(answer_redirect(location), extra_headers)
        )
        cached.redirected_to = location
    return cached.response.at_second(int(now))


def _error_response(method: str, error: StillroomError, extra_headers: Headers) -> CachedResponse:
    found = problem(error)
    head = _head(ImageAnswer(found.status, found.headers), extra_headers)
    return CachedResponse(
        _OPERATION[method], found.status, head, found.body if method == "GET" else b""
    )


def _head(answer: ImageAnswer, extra_headers: Headers) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in (*answer.headers, *extra_headers)]
    if answer.status >= 400:
        lines.append(
            f"{FIELD}: {'0' * GENERATED_BYTES}"  # `CachedResponse` sets another one each time
        )
    return "\r\n".join(lines).encode("latin-1") + b"\r\ndate: "
