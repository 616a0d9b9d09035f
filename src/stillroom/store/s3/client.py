"""HTTP client for one bucket: signs requests, sends them with retries, and reads responses.

`connections` only transmits bytes. This module implements timeouts and retries (docs/adr/0006).
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
from stillroom.store.address import BucketAddress
from stillroom.store.capabilities import CallObserver, unobserved
from stillroom.store.connections import BrokenAnswerError, Connections, NotConnectedError, Response
from stillroom.store.objectstore import DEADLINE_S, Headers
from stillroom.store.s3 import refusals
from stillroom.store.s3.calls import BodyStream, BucketError, BucketResponse, Call
from stillroom.store.s3.signing import Signer, encode_query

IN_FLIGHT: Final = 64  # others wait, which limits memory if the bucket is slow
_TIMEOUT_S: Final = 5.0  # of one attempt, without its body; R2 responds within two seconds
_LEAST_S: Final = 1.0  # from the start of an attempt to the deadline, since R2 may take that long
_SLOWEST_BYTES_PER_S: Final = 1024**2  # a part of 16 MiB can be sent within one deadline
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 4.0
"""Maximum pause between attempts, unless the bucket requests a longer one. R2 accepts one write per
second and key, and responds with 429 to others. https://developers.cloudflare.com/r2/platform/limits/"""

_TRIAL_S: Final = 60  # lifetime of a presigned URL for one request from this process
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_MAX_RESPONSE_BYTES: Final = 16 * 1024**2  # a page of 1,000 keys of 1,024 bytes has at most 4 MiB


class _TooLateError(Exception):
    """Error that prevents an attempt which would start too close to the deadline."""


class BucketClient:
    """Client for one bucket, in one event loop. `is_r2` is True for Cloudflare R2."""

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
        self._refusals = refusals.Refusals()

    def presigned_url(self, key: str, *, valid_for_s: int, upload: Headers | None = None) -> str:
        """Return a presigned URL for an object; see `Signer.presign`. Sends no request."""
        path, now = self._address.path_of(key), datetime.now(UTC)
        query = self._signer.presign(path, valid_for_s=valid_for_s, now=now, upload=upload)
        return f"{self._address.origin}{path}?{query}"

    def copy_source(self, key: str) -> str:
        """Return the percent-encoded bucket and key for the source of CopyObject."""
        return f"/{self._address.name}/{quote(key, safe='/')}"

    async def send(self, call: Call, *, deadline: float | None = None) -> BucketResponse:
        """Send a request, and retry it until the bucket accepts or refuses it.

        Raises `BackendUnavailable` if this does not succeed by `deadline` (event loop's clock; by
        default, in `DEADLINE_S`). It is then unknown whether a change was made.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + DEADLINE_S if deadline is None else deadline
        # `why` must not contain host names, since health checks show it.
        doubtful, why, trouble = False, "too many requests wait for it", None
        for attempt in itertools.count():
            try:
                response = await self._attempt(call, deadline, again=attempt > 0)
                # A presigned test request may have a wrong hash on purpose: do not retry it.
                is_refused = call.presigned is not None and response.status in call.expected
                code = None if is_refused else refusals.transient_code(response)
                if code is None:
                    self._refusals.raise_unexpected(call, response)
                    return dataclasses.replace(response, doubtful=True) if doubtful else response
                trouble = BucketError(f"{call.operation}: {response.status} {code}")
                why = f"it responds {response.status} {code}".rstrip()
                if response.status >= 500:  # noqa: PLR2004  (server errors)
                    doubtful |= code not in refusals.NOTHING_DONE
                pause = refusals.retry_after_s(response)
            except _TooLateError:
                break
            except NotConnectedError as error:
                trouble, pause = _without_secrets(call, error), 0.0
                why = "it accepts no connection"
            except OSError as error:  # a TimeoutError is an OSError
                trouble, pause = _without_secrets(call, error), 0.0
                doubtful = True
                silent = isinstance(error, TimeoutError)
                why = "it does not respond in time" if silent else "its responses break off"
            longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
            pause = max(pause, self._random.uniform(0, longest))  # "full jitter": see docs/adr/0006
            if call.once or clock() + pause > deadline - _LEAST_S:
                break
            await asyncio.sleep(pause)
        if doubtful and call.method not in ("GET", "HEAD"):
            raise BackendUnavailable(
                f"the bucket failed ({why}): the outcome is unknown"
            ) from trouble
        raise BackendUnavailable(f"the bucket is out of reach: {why}") from trouble

    async def _attempt(self, call: Call, deadline: float, *, again: bool) -> BucketResponse:
        """Send a request once. Raises `_TooLateError`, or `OSError` (also for a timeout)."""
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
            outcome = refusals.outcome_of(call, response)
        except OSError as error:
            outcome = refusals.failure_of(error)
            raise
        else:
            return response
        finally:
            self._slots.release()
            self._observe(call.operation, outcome, loop.time() - began, again=again)

    async def _exchange_until(self, call: Call, *, deadline: float) -> BucketResponse:
        started = asyncio.Event()
        try:
            async with asyncio.timeout_at(deadline):
                return await self._exchange(call, started.set)
        except TimeoutError as error:
            if started.is_set():
                raise
            raise NotConnectedError("no connection was available before the deadline") from error

    async def _exchange(self, call: Call, on_start: Callable[[], None]) -> BucketResponse:
        path = self._address.path_of(call.key)
        headers, now = dict(call.headers), datetime.now(UTC)
        if call.presigned is None:
            query = encode_query(call.query)
            headers |= self._signer.sign(
                call.method, path, query=call.query, headers=headers, sha256=call.sha256, now=now
            )
        else:
            headers["host"] = self._signer.host
            query = self._signer.presign(path, valid_for_s=_TRIAL_S, now=now, upload=call.presigned)
        target = f"{path}?{query}" if query else path
        headers["accept-encoding"] = "identity"  # otherwise responses to HEAD may lack the length
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
        response = BucketResponse(raw.status, raw.headers, await _read(raw))
        return refusals.unmask_error(call, response)

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()


def _head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {text}" for name, text in headers.items()]]
    if any(_CONTROL.search(line) for line in lines):
        raise ValueError("a request to the bucket contains a control character")
    return "\r\n".join([*lines, "\r\n"]).encode()


def _without_secrets(call: Call, error: Exception) -> BucketError:
    """Describe an error without its traceback, which would keep up to 16 MiB in memory."""
    return BucketError(f"{call.operation}: {type(error).__name__} {error}".rstrip())


async def _read(response: Response) -> bytes:
    body = bytearray()
    with contextlib.closing(response):
        async for piece in response.pieces():
            body += piece
            if len(body) > _MAX_RESPONSE_BYTES:
                raise BrokenAnswerError(f"the response is larger than {_MAX_RESPONSE_BYTES} bytes")
    return bytes(body)
