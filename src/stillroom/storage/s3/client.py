"""One bucket over HTTP: signs, waits, tries again, and says what the bucket answered.

`connections` carries the bytes and nothing else: which request is sent, how often, and how
long a call waits is decided here (docs/adr/0006).
"""

import asyncio
import contextlib
import dataclasses
import itertools
import logging
import random
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit

from stillroom.errors import BackendUnavailable
from stillroom.storage.capabilities import CallObserver, unobserved
from stillroom.storage.s3 import xml
from stillroom.storage.s3.connections import (
    BrokenAnswerError,
    Connections,
    NotConnectedError,
    Response,
)
from stillroom.storage.s3.signing import EMPTY_SHA256, Signer, encoded_query

DEADLINE_S: Final = 20.0
"""For one request with its repetitions and all waiting; then the client is told to come back."""

IN_FLIGHT: Final = 64
"""Requests under way at once; the rest wait, so that a slow bucket costs memory for no more."""

_TIMEOUT_S: Final = 5.0
"""How long one attempt may take beside its body. R2 answers within a second or two."""

_SLOWEST_BYTES_PER_S: Final = 1024**2
"""What the way to the bucket must carry: a full part of 16 MiB, and its answer, in one deadline."""

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 4.0
"""R2 takes one write a second and key, and answers 429 to more: the pauses grow well past that.
https://developers.cloudflare.com/r2/platform/limits/"""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_MAX_ANSWER_BYTES: Final = 16 * 1024**2
"""A page of 1,000 keys of 1,024 bytes, each byte escaped, is 4 MiB."""

_TRANSIENT_STATUSES: Final = frozenset((408, 429, 500, 502, 503, 504, *range(520, 528)))
"""520 to 527 are Cloudflare's: its edge did not reach the bucket.
https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/"""

_TRANSIENT_CODES: Final = frozenset(
    {
        "BadDigest",  # the body arrived damaged
        "ConditionalRequestConflict",  # a racing write to the key; ask again for its outcome
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "XAmzContentSHA256Mismatch",
    }
)
"""https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html"""

_NOTHING_DONE: Final = frozenset(
    {"BadDigest", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch"}
)
_SAYS_ERRORS_WITH_200: Final = frozenset({"CompleteMultipartUpload", "CopyObject"})
_STATUS_OF_CODE: Final = {"NoSuchUpload": 404, "NoSuchKey": 404, "PreconditionFailed": 412}

_ADVICE: Final = {
    "AccessDenied": "the token needs `Object Read & Write` on this bucket",
    "InvalidAccessKeyId": "R2_ENDPOINT_URL knows no such R2_ACCESS_KEY_ID",
    "NoSuchBucket": "R2_BUCKET_NAME names no bucket behind R2_ENDPOINT_URL",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "SignatureDoesNotMatch": "R2_SECRET_ACCESS_KEY does not belong to R2_ACCESS_KEY_ID",
    "Unauthorized": "R2_ENDPOINT_URL knows no such R2_ACCESS_KEY_ID",
}
_GENERAL_ADVICE: Final = (
    "check R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY and R2_BUCKET_NAME, "
    "and that the token has `Object Read & Write` on this bucket"
)

log = logging.getLogger("stillroom.r2")


class BucketError(Exception):
    """What a bucket answered instead of doing it; the cause of a `BackendUnavailable`."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to the bucket.

    Attributes:
        operation: As S3's documents call it.
        method: Of HTTP.
        key: Of the object; empty for the bucket itself.
        query: Decoded.
        headers: Lower-case names.
        body: Whole; it may have to be sent again.
        sha256: Of the body, hexadecimal.
        expected: Refusals that mean something to the caller; all others raise.
        timeout_s: How long one attempt may take beside its body; None for the usual.
        streams: Leave the body of a good answer to be read piece by piece.
        once: It is not sent again when it fails: what allowed it may not hold any more.
    """

    operation: str
    method: str
    key: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | memoryview = b""
    sha256: str = EMPTY_SHA256
    expected: frozenset[int] = frozenset()
    timeout_s: float | None = None
    streams: bool = False
    once: bool = False

    @property
    def changes(self) -> bool:
        """Whether anything is another way after it, so that an unknown outcome matters."""
        return self.method not in ("GET", "HEAD")

    def expecting(self, statuses: frozenset[int]) -> "Call":
        """The same call by a caller to whom these refusals mean something."""
        return dataclasses.replace(self, expected=statuses)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bucket said in the end.

    Attributes:
        status: 2xx, or one of those that the caller expected.
        headers: Lower-case names.
        body: Whole; empty if it is left in `rest`.
        doubtful: An attempt before this one may have been carried out already.
        rest: A body that streams; close it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    doubtful: bool = False
    rest: "BodyStream | None" = None


class BodyStream:
    """The body of an answer on its way."""

    def __init__(self, response: Response) -> None:
        self._response = response

    async def chunks(self) -> AsyncIterator[bytes]:
        """All of it, as it comes.

        Raises:
            BackendUnavailable: it broke off, or nothing came for too long.
        """
        pieces = self._response.pieces()
        while True:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    piece = await anext(pieces, b"")
            except TimeoutError:
                raise BackendUnavailable("the bucket stopped in the middle of an image") from None
            except OSError as error:
                raise BackendUnavailable("the bucket broke off in the middle of an image") from (
                    BucketError(f"{type(error).__name__}")
                )
            if not piece:
                return
            yield piece

    def close(self) -> None:
        """Give the connection back if all was read, else close it."""
        self._response.close()


class BucketClient:
    """Sends calls to one bucket. Belongs to the event loop in which it is first used.

    Attributes:
        is_r2: It is one of Cloudflare's, by the host of its endpoint.
    """

    def __init__(
        self,
        endpoint_url: str,
        bucket: str,
        *,
        key_id: str,
        secret: str,
        observer: CallObserver = unobserved,
    ) -> None:
        """Speak to `bucket` at `endpoint_url`, which may have a path; `observer` hears of it."""
        parts = urlsplit(endpoint_url)
        standard_port = {"http": 80, "https": 443}.get(parts.scheme)
        host = (parts.hostname or "").lower()
        host = f"[{host}]" if ":" in host else host
        host = host if parts.port in (None, standard_port) else f"{host}:{parts.port}"
        self.is_r2 = (parts.hostname or "").endswith(".r2.cloudflarestorage.com")
        self._origin = f"{parts.scheme}://{host}"
        self._bucket = quote(bucket, safe="")
        self._root = f"{parts.path.rstrip('/')}/{self._bucket}"
        self._signer = Signer(host, key_id, secret)
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._connections = Connections(
            parts.hostname or "",
            parts.port or standard_port or 443,
            tls=parts.scheme == "https",
            stalled_s=DEADLINE_S,
        )
        self._random = random.SystemRandom()
        self._observe = observer

    def presigned_url(self, key: str, *, valid_for_s: int) -> str:
        """A presigned GET URL of an object, valid for a while; makes no request."""
        path = self._path(key)
        query = self._signer.presign(path, valid_for_s=valid_for_s, now=datetime.now(UTC))
        return f"{self._origin}{path}?{query}"

    def copy_source(self, key: str) -> str:
        """How CopyObject names the object that it copies: bucket and key, quoted."""
        return f"/{self._bucket}/{quote(key, safe='/')}"

    async def send(self, call: Call, *, deadline: float | None = None) -> Answer:
        """Send a call until the bucket has decided about it.

        Args:
            call: What to send.
            deadline: When to give up, by the event loop's clock; in `DEADLINE_S` without it.

        Raises:
            BackendUnavailable: the bucket cannot be reached, refuses us, or had not decided
                in time. Whether a change was made is then unknown.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + DEADLINE_S if deadline is None else deadline
        doubtful = False
        for attempt in itertools.count():
            try:
                answer = await self._attempt(call, deadline, again=attempt > 0)
                code = _transient_code(answer)
                if code is None:
                    self._refuse_unexpected(call, answer)
                    return dataclasses.replace(answer, doubtful=doubtful)
                trouble = BucketError(f"{call.operation}: {answer.status} {code}")
                why = f"it answers {answer.status} {code}".rstrip()
                doubtful |= answer.status >= 500 and code not in _NOTHING_DONE  # noqa: PLR2004  (server errors)
                pause = _asked_pause(answer)
            except NotConnectedError as error:
                trouble, pause = _without_secrets(call, error), 0.0
                why = "it takes no connection"
            except OSError as error:  # a TimeoutError is an OSError
                trouble, pause = _without_secrets(call, error), 0.0
                doubtful = True
                silent = isinstance(error, TimeoutError)
                why = "it does not answer in time" if silent else "its answers break off"
            longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
            pause = max(pause, self._random.uniform(0, longest))  # "full jitter": see docs/adr/0006
            if call.once or clock() + pause >= deadline:
                raise _given_up(why, doubtful=doubtful and call.changes) from trouble
            await asyncio.sleep(pause)
        raise AssertionError  # the count above never ends

    async def _attempt(self, call: Call, deadline: float, *, again: bool) -> Answer:
        """Send a call once.

        Raises:
            BackendUnavailable: no slot became free in time.
            OSError: the connection or the time ran out.
        """
        try:
            waits = self._slots.locked()
            async with asyncio.timeout_at(deadline) if waits else contextlib.nullcontext():
                await self._slots.acquire()
        except TimeoutError:
            raise BackendUnavailable("too many requests wait for the bucket") from None
        loop = asyncio.get_running_loop()
        began, outcome = loop.time(), "cancelled"
        try:
            timeout_s = _TIMEOUT_S if call.timeout_s is None else call.timeout_s
            timeout_s += len(call.body) / _SLOWEST_BYTES_PER_S
            async with asyncio.timeout_at(min(deadline, loop.time() + timeout_s)):
                answer = await self._exchange(call)
            outcome = _outcome(call, answer)
        except OSError as error:
            outcome = _failure(error)
            raise
        else:
            return answer
        finally:
            self._slots.release()
            self._observe(call.operation, outcome, loop.time() - began, again=again)

    async def _exchange(self, call: Call) -> Answer:
        path = self._path(call.key)
        headers = dict(call.headers)
        headers |= self._signer.sign(
            call.method,
            path,
            query=call.query,
            headers=headers,
            payload_sha256=call.sha256,
            now=datetime.now(UTC),
        )
        target = f"{path}?{encoded_query(call.query)}" if call.query else path
        headers["accept-encoding"] = "identity"  # or HEAD may come without the length
        if call.method in ("PUT", "POST"):
            headers["content-length"] = str(len(call.body))
        response = await self._connections.ask(
            _head(call.method, target, headers), call.body, has_answer_body=call.method != "HEAD"
        )
        if call.streams and 200 <= response.status < 300:  # noqa: PLR2004  (2xx)
            return Answer(response.status, response.headers, b"", rest=BodyStream(response))
        body = await _read(response)
        return _unmasked(call, Answer(response.status, response.headers, body))

    def _path(self, key: str) -> str:
        return f"{self._root}/{quote(key, safe='/')}" if key else self._root

    def _refuse_unexpected(self, call: Call, answer: Answer) -> None:
        if 200 <= answer.status < 300:  # noqa: PLR2004  (2xx)
            return
        code = xml.error_code(answer.body)
        if answer.status in call.expected and code != "NoSuchBucket":
            return
        error = BucketError(f"{call.operation}: {answer.status} {code}".rstrip())
        if code in _ADVICE or answer.status in (401, 403):
            # After a HEAD there is no code; R2 says 401 to unknown keys and to nothing else.
            unknown = "Unauthorized" if answer.status == 401 else ""  # noqa: PLR2004  (Unauthorized)
            advice = _ADVICE.get(code or unknown, _GENERAL_ADVICE)
            log.error("the bucket refuses us (%s): %s", error, advice)
            raise BackendUnavailable(f"the bucket refuses this server: {advice}") from error
        log.error("unexpected response from the bucket: %s", error)
        raise BackendUnavailable("the bucket does not do what it is asked for") from error

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {text}" for name, text in headers.items()]]
    if any(_CONTROL.search(line) for line in lines):
        raise ValueError("a control character in a request to the bucket")
    return "\r\n".join([*lines, "\r\n"]).encode()


def _without_secrets(call: Call, error: Exception) -> BucketError:
    """What went wrong, to be kept and logged.

    An error that was raised holds its frames, and with them a body of 16 MiB.
    """
    return BucketError(f"{call.operation}: {type(error).__name__} {error}".rstrip())


async def _read(response: Response) -> bytes:
    body = bytearray()
    try:
        async for piece in response.pieces():
            body += piece
            if len(body) > _MAX_ANSWER_BYTES:
                raise BrokenAnswerError("the answer is too large to be one of S3's")
    finally:
        response.close()
    return bytes(body)


def _unmasked(call: Call, answer: Answer) -> Answer:
    """Give an error its status: S3 answers what takes long with 200 before it knows.

    https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    """
    if call.operation not in _SAYS_ERRORS_WITH_200 or answer.status != 200:  # noqa: PLR2004  (OK)
        return answer
    code = xml.error_code(answer.body)
    if not code:
        return answer
    status = 500 if code in _TRANSIENT_CODES else _STATUS_OF_CODE.get(code, 400)
    return Answer(status, answer.headers, answer.body)


def _outcome(call: Call, answer: Answer) -> str:
    """What became of an attempt, in one word, for the numbers."""
    if answer.status < 300:  # noqa: PLR2004  (2xx)
        return "ok"
    if answer.status in call.expected:
        return {404: "missing", 412: "precondition"}.get(answer.status, "ok")
    if answer.status == 429:  # noqa: PLR2004  (Too Many Requests)
        return "throttled"
    return "error" if answer.status >= 500 else "refused"  # noqa: PLR2004  (server errors)


def _failure(error: OSError) -> str:
    """Why there was no answer, in one word."""
    if isinstance(error, NotConnectedError):
        return "unreachable"
    return "timeout" if isinstance(error, TimeoutError) else "broken"


def _transient_code(answer: Answer) -> str | None:
    """The error code of an answer that another attempt may change; None for all others."""
    if answer.status < 400:  # noqa: PLR2004  (errors begin there)
        return None
    code = xml.error_code(answer.body)
    if answer.status in _TRANSIENT_STATUSES or code in _TRANSIENT_CODES:
        return code
    return None


def _asked_pause(answer: Answer) -> float:
    """The seconds that the bucket wants us to wait (RFC 9110, 10.2.3); a date is not looked at."""
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _given_up(why: str, *, doubtful: bool) -> BackendUnavailable:
    """The end of all attempts; `why` names no host, since a probe's reason is public."""
    if doubtful:
        return BackendUnavailable(f"the bucket is in trouble ({why}): the outcome is unknown")
    return BackendUnavailable(f"the bucket is out of reach: {why}")
