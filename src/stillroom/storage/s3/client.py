"""HTTP client of one bucket: signs and sends requests, retries them, and reads the responses.

`connections` only transmits bytes; the timeouts and retries are decided here (docs/adr/0006).
"""

import asyncio
import contextlib
import dataclasses
import itertools
import random
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from stillroom.errors import BackendUnavailable
from stillroom.storage.address import BucketAddress
from stillroom.storage.capabilities import CallObserver, unobserved
from stillroom.storage.objectstore import DEADLINE_S
from stillroom.storage.s3.calls import BodyStream, BucketError, BucketResponse, Call
from stillroom.storage.s3.connections import (
    BrokenAnswerError,
    Connections,
    NotConnectedError,
    Response,
)
from stillroom.storage.s3.refusals import (
    NOTHING_DONE,
    Refusals,
    failure_of,
    outcome_of,
    retry_after_s,
    transient_code,
    unmask_error,
)
from stillroom.storage.s3.signing import Signer, encode_query

IN_FLIGHT: Final = 64
"""Concurrent requests. Others wait, which bounds the memory that a slow bucket costs."""

_TIMEOUT_S: Final = 5.0
"""Seconds for one attempt in addition to the time for its body. R2 responds within two seconds."""

_LEAST_S: Final = 1.0
"""Seconds that must be left before the deadline to start an attempt. R2 may need that long, and an
interrupted write has an unknown outcome."""

_SLOWEST_BYTES_PER_S: Final = 1024**2
"""Minimum speed of the connection: a part of 16 MiB and its response within one deadline."""

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 4.0
"""Bounds of the pauses between attempts. R2 accepts one write per second and key, and responds 429
to more. https://developers.cloudflare.com/r2/platform/limits/"""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_MAX_RESPONSE_BYTES: Final = 16 * 1024**2
"""A page of 1,000 keys of 1,024 bytes, each byte escaped, is 4 MiB."""


class _TooLateError(Exception):
    """Too little time is left for an attempt; no byte of it was sent."""


class BucketClient:
    """Sends calls to one bucket. Belongs to the event loop in which it is first used.

    Attributes:
        is_r2: The endpoint's host is Cloudflare R2.
    """

    def __init__(
        self, address: BucketAddress, signer: Signer, *, observer: CallObserver = unobserved
    ) -> None:
        self.is_r2 = address.hostname.endswith(".r2.cloudflarestorage.com")
        self._address = address
        self._signer = signer
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self._connections = Connections(
            address.hostname, address.port, tls=address.scheme == "https", stalled_s=DEADLINE_S
        )
        self._random = random.SystemRandom()
        self._observe = observer
        self._refusals = Refusals()

    def presigned_url(self, key: str, *, valid_for_s: int) -> str:
        """Return a presigned GET URL of an object, without sending a request."""
        path = self._address.path_of(key)
        query = self._signer.presign(path, valid_for_s=valid_for_s, now=datetime.now(UTC))
        return f"{self._address.origin}{path}?{query}"

    def copy_source(self, key: str) -> str:
        """Return the source of CopyObject: bucket and key, quoted."""
        return f"/{self._address.name}/{quote(key, safe='/')}"

    async def send(self, call: Call, *, deadline: float | None = None) -> BucketResponse:
        """Send a call, retrying until the bucket has decided about it.

        `deadline` is a time on the event loop's clock; by default it is in `DEADLINE_S`.

        Raises:
            BackendUnavailable: the bucket cannot be reached, refuses access, or had not decided
                in time. Whether a change was made is then unknown.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + DEADLINE_S if deadline is None else deadline
        doubtful, why, trouble = False, "too many requests wait for it", None
        for attempt in itertools.count():
            try:
                response = await self._attempt(call, deadline, again=attempt > 0)
                code = transient_code(response)
                if code is None:
                    self._refusals.raise_unexpected(call, response)
                    return dataclasses.replace(response, doubtful=True) if doubtful else response
                trouble = BucketError(f"{call.operation}: {response.status} {code}")
                why = f"it answers {response.status} {code}".rstrip()
                doubtful |= response.status >= 500 and code not in NOTHING_DONE  # noqa: PLR2004  (server errors)
                pause = retry_after_s(response)
            except _TooLateError:
                break
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
            if call.once or clock() + pause > deadline - _LEAST_S:
                break
            await asyncio.sleep(pause)
        raise _unavailable(why, doubtful=doubtful and call.changes) from trouble

    async def _attempt(self, call: Call, deadline: float, *, again: bool) -> BucketResponse:
        """Send a call once.

        Raises:
            _TooLateError: it would start too late, or no slot became free in time.
            OSError: the connection broke off, or the time ran out.
        """
        loop, latest = asyncio.get_running_loop(), deadline - _LEAST_S
        if loop.time() > latest:
            raise _TooLateError
        try:
            waits = self._slots.locked()
            async with asyncio.timeout_at(latest) if waits else contextlib.nullcontext():
                await self._slots.acquire()
        except TimeoutError:
            raise _TooLateError from None
        began, outcome = loop.time(), "cancelled"
        try:
            timeout_s = _TIMEOUT_S if call.timeout_s is None else call.timeout_s
            timeout_s += len(call.body) / _SLOWEST_BYTES_PER_S
            response = await self._exchange_until(
                call, deadline=min(deadline, loop.time() + timeout_s)
            )
            outcome = outcome_of(call, response)
        except OSError as error:
            outcome = failure_of(error)
            raise
        else:
            return response
        finally:
            self._slots.release()
            self._observe(call.operation, outcome, loop.time() - began, again=again)

    async def _exchange_until(self, call: Call, *, deadline: float) -> BucketResponse:
        """Send a call and read its response before a deadline.

        Raises:
            NotConnectedError: the deadline passed before anything was sent.
            OSError: the connection broke off, or the time ran out.
        """
        started = asyncio.Event()
        try:
            async with asyncio.timeout_at(deadline):
                return await self._exchange(call, started.set)
        except TimeoutError as error:
            if started.is_set():
                raise
            raise NotConnectedError("no connection in time") from error

    async def _exchange(self, call: Call, on_start: Callable[[], None]) -> BucketResponse:
        path = self._address.path_of(call.key)
        headers = dict(call.headers)
        headers |= self._signer.sign(
            call.method,
            path,
            query=call.query,
            headers=headers,
            payload_sha256=call.sha256,
            now=datetime.now(UTC),
        )
        target = f"{path}?{encode_query(call.query)}" if call.query else path
        headers["accept-encoding"] = "identity"  # otherwise HEAD may come without the length
        if call.method in ("PUT", "POST"):
            headers["content-length"] = str(len(call.body))
        raw = await self._connections.send(
            _head(call.method, target, headers),
            call.body,
            has_response_body=call.method != "HEAD",
            on_start=on_start,
        )
        if call.streams and 200 <= raw.status < 300:  # noqa: PLR2004  (2xx)
            body = BodyStream(raw, timeout_s=_TIMEOUT_S)
            return BucketResponse(raw.status, raw.headers, b"", rest=body)
        whole = await _read(raw)
        return unmask_error(call, BucketResponse(raw.status, raw.headers, whole))

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {text}" for name, text in headers.items()]]
    if any(_CONTROL.search(line) for line in lines):
        raise ValueError("a control character in a request to the bucket")
    return "\r\n".join([*lines, "\r\n"]).encode()


def _without_secrets(call: Call, error: Exception) -> BucketError:
    """Describe an error by text alone, as its frames refer to the call's body of up to 16 MiB."""
    return BucketError(f"{call.operation}: {type(error).__name__} {error}".rstrip())


async def _read(response: Response) -> bytes:
    body = bytearray()
    try:
        async for piece in response.pieces():
            body += piece
            if len(body) > _MAX_RESPONSE_BYTES:
                raise BrokenAnswerError("the answer is too large to be one of S3's")
    finally:
        response.close()
    return bytes(body)


def _unavailable(why: str, *, doubtful: bool) -> BackendUnavailable:
    """Build the final error; `why` names no host, since health checks publish it."""
    if doubtful:
        return BackendUnavailable(f"the bucket is in trouble ({why}): the outcome is unknown")
    return BackendUnavailable(f"the bucket is out of reach: {why}")
