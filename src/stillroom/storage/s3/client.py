"""One bucket over HTTP: signs, waits, tries again, and says what the bucket answered.

`connections` carries the bytes and nothing else: which request is sent, how often, and how
long a call waits is decided here (docs/adr/0006).
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
from stillroom.storage.s3.calls import Answer, BodyStream, BucketError, Call
from stillroom.storage.s3.connections import (
    BrokenAnswerError,
    Connections,
    NotConnectedError,
    Response,
)
from stillroom.storage.s3.refusals import (
    NOTHING_DONE,
    Refusals,
    asked_pause,
    failure_of,
    outcome_of,
    transient_code,
    unmasked,
)
from stillroom.storage.s3.signing import Signer, encoded_query

IN_FLIGHT: Final = 64
"""Requests under way at once; the rest wait, so that a slow bucket costs memory for no more."""

_TIMEOUT_S: Final = 5.0
"""How long one attempt may take beside its body. R2 answers within a second or two."""

_LEAST_S: Final = 1.0
"""An attempt with less left of its deadline does not begin: R2 may need that long to answer, and a
write that is cut off has an unknown outcome."""

_SLOWEST_BYTES_PER_S: Final = 1024**2
"""What the way to the bucket must carry: a full part of 16 MiB, and its answer, in one deadline."""

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 4.0
"""R2 takes one write a second and key, and answers 429 to more: the pauses grow well past that.
https://developers.cloudflare.com/r2/platform/limits/"""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")

_MAX_ANSWER_BYTES: Final = 16 * 1024**2
"""A page of 1,000 keys of 1,024 bytes, each byte escaped, is 4 MiB."""


class _TooLateError(Exception):
    """Too little is left of the deadline for an attempt; no byte of it was sent."""


class BucketClient:
    """Sends calls to one bucket. Belongs to the event loop in which it is first used.

    Attributes:
        is_r2: It is one of Cloudflare's, by the host of its endpoint.
    """

    def __init__(
        self, address: BucketAddress, signer: Signer, *, observer: CallObserver = unobserved
    ) -> None:
        """Speak to the bucket at `address`; `signer` is for its host, `observer` hears of it."""
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
        """A presigned GET URL of an object, valid for a while; makes no request."""
        path = self._address.path_of(key)
        query = self._signer.presign(path, valid_for_s=valid_for_s, now=datetime.now(UTC))
        return f"{self._address.origin}{path}?{query}"

    def copy_source(self, key: str) -> str:
        """How CopyObject names the object that it copies: bucket and key, quoted."""
        return f"/{self._address.name}/{quote(key, safe='/')}"

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
        doubtful, why, trouble = False, "too many requests wait for it", None
        for attempt in itertools.count():
            try:
                answer = await self._attempt(call, deadline, again=attempt > 0)
                code = transient_code(answer)
                if code is None:
                    self._refusals.raise_unexpected(call, answer)
                    return dataclasses.replace(answer, doubtful=True) if doubtful else answer
                trouble = BucketError(f"{call.operation}: {answer.status} {code}")
                why = f"it answers {answer.status} {code}".rstrip()
                doubtful |= answer.status >= 500 and code not in NOTHING_DONE  # noqa: PLR2004  (server errors)
                pause = asked_pause(answer)
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
        raise _given_up(why, doubtful=doubtful and call.changes) from trouble

    async def _attempt(self, call: Call, deadline: float, *, again: bool) -> Answer:
        """Send a call once.

        Raises:
            _TooLateError: it would begin too late, or no slot became free in time.
            OSError: the connection or the time ran out.
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
            answer = await self._in_time(call, min(deadline, loop.time() + timeout_s))
            outcome = outcome_of(call, answer)
        except OSError as error:
            outcome = failure_of(error)
            raise
        else:
            return answer
        finally:
            self._slots.release()
            self._observe(call.operation, outcome, loop.time() - began, again=again)

    async def _in_time(self, call: Call, ends: float) -> Answer:
        """Exchange it until then.

        Raises:
            NotConnectedError: there was no connection by then, so nothing was sent.
            OSError: the connection or the time ran out.
        """
        begun = asyncio.Event()
        try:
            async with asyncio.timeout_at(ends):
                return await self._exchange(call, begun.set)
        except TimeoutError as error:
            if begun.is_set():
                raise
            raise NotConnectedError("no connection in time") from error

    async def _exchange(self, call: Call, begins: Callable[[], None]) -> Answer:
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
        target = f"{path}?{encoded_query(call.query)}" if call.query else path
        headers["accept-encoding"] = "identity"  # or HEAD may come without the length
        if call.method in ("PUT", "POST"):
            headers["content-length"] = str(len(call.body))
        response = await self._connections.ask(
            _head(call.method, target, headers),
            call.body,
            has_answer_body=call.method != "HEAD",
            begins=begins,
        )
        if call.streams and 200 <= response.status < 300:  # noqa: PLR2004  (2xx)
            body = BodyStream(response, timeout_s=_TIMEOUT_S)
            return Answer(response.status, response.headers, b"", rest=body)
        whole = await _read(response)
        return unmasked(call, Answer(response.status, response.headers, whole))

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


def _given_up(why: str, *, doubtful: bool) -> BackendUnavailable:
    """The end of all attempts; `why` names no host, since a probe's reason is public."""
    if doubtful:
        return BackendUnavailable(f"the bucket is in trouble ({why}): the outcome is unknown")
    return BackendUnavailable(f"the bucket is out of reach: {why}")
