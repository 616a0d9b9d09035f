"""Whether a bucket holds to If-None-Match and If-Match: tried, never believed.

Some ignore the fields, and a guarded save would replace whatever is there; some refuse them, or
take ETags without their quotes alone, as Ceph RGW 18 does
(https://docs.ceph.com/en/reef/radosgw/s3/objectops/). Few hold to those of a deletion. What an
object of our own shows is remembered for as long as the process runs.
"""

import asyncio
import contextlib
import enum
import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stillroom.errors import BackendUnavailable, ConditionUnsupported
from stillroom.storage.bucket.abandoned_uploads import AbandonedUploads
from stillroom.storage.bucket.multipart import MultipartUpload
from stillroom.storage.capabilities import Limitation
from stillroom.storage.objectstore import (
    Deleted,
    Guard,
    ObjectStore,
    Properties,
    Refusal,
    Written,
)
from stillroom.storage.values import Condition

PROBE: Final = ".stillroom/conditions-"
"""What an object for this is called; no image path leads there."""

_BODY: Final = memoryview(b"written to try conditions; may be deleted")
_SHA256: Final = hashlib.sha256(_BODY).hexdigest()
_OTHER_ETAG: Final = f'"{"0" * 32}"'

IF_ABSENT: Final = Guard()
"""The guard of a save that may only create."""

_BARE: Final = Properties()

log = logging.getLogger("stillroom.r2")


class _Request(enum.Enum):
    """What is asked under a condition; the value says so behind the condition's name."""

    PUT = ""
    COMPLETE = " for images over 16 MiB"
    DELETE = " of a DELETE"


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to change an object under a condition.

    Attributes:
        creates: There must be no object; else, one with an ETag.
    """

    request: _Request
    creates: bool = False

    def __str__(self) -> str:
        return f"{'If-None-Match' if self.creates else 'If-Match'}{self.request.value}"

    @property
    def consequence(self) -> str:
        """What a bucket that does not hold to it means for requests."""
        if self.request is _Request.DELETE:
            return "a guarded deletion looks first, and takes what is saved right between the two"
        return "saves with such a condition are answered 501"


class Conditions:
    """What one bucket does with conditions; found out when it is first needed."""

    def __init__(self, store: ObjectStore, abandoned: AbandonedUploads) -> None:
        self._store = store
        self._abandoned = abandoned
        self._trying: dict[_Request, asyncio.Future[None]] = {}
        self._known: dict[_Way, str | None] = {}

    async def demand(self, guard: Guard | None, *, in_parts: bool = False) -> None:
        """Return if the bucket holds to `guard`, the condition of a request that stores.

        One whose documents say so is not tried: each request would be billed.

        Raises:
            ConditionUnsupported: it does not; nothing was sent yet.
            BackendUnavailable: that could not be found out.
        """
        if guard is None or self._store.keeps_guards:
            return
        request = _Request.COMPLETE if in_parts else _Request.PUT
        lacking = (await self._found(request))[_Way(request, guard.etag is None)]
        if lacking is not None:
            raise ConditionUnsupported(
                f"the bucket {lacking}, so a save with a condition cannot be kept to it: "
                "save without one, or use a bucket with conditional writes"
            )

    async def guards_deletions(self) -> bool:
        """Whether the bucket holds to the guard of a deletion.

        Ask before the look that the guard comes from: the first time it takes some requests.

        Raises:
            BackendUnavailable: that could not be found out.
        """
        if self._store.keeps_guards:  # R2, whose documents know of no conditional deletion
            return False
        return (await self._found(_Request.DELETE))[_Way(_Request.DELETE)] is None

    async def lacking(self) -> Sequence[Limitation]:
        """What the bucket does wrong; nothing if it holds to all conditions.

        Raises:
            BackendUnavailable: that could not be found out.
        """
        for request in _Request:
            await self._found(request)
        return [
            Limitation(clause, way.consequence)
            for way, clause in self._known.items()
            if clause is not None
        ]

    async def _found(self, request: _Request) -> Mapping[_Way, str | None]:
        """What is known, once it is; all who need it wait for one attempt."""
        if _Way(request) not in self._known:
            trying = self._trying.get(request)
            if trying is None:
                trying = asyncio.ensure_future(self._find_out(request))
                trying.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._trying[request] = trying
            await asyncio.shield(trying)
        return self._known

    async def _find_out(self, request: _Request) -> None:
        key = f"{PROBE}{secrets.token_hex(8)}"
        try:
            try:
                if request is _Request.DELETE:
                    found = await self._try_deletion(key)
                else:
                    found = await self._try(key, in_parts=request is _Request.COMPLETE)
            finally:
                with contextlib.suppress(BackendUnavailable):
                    await self._store.delete(key, once=True)
        finally:
            del self._trying[request]
        for way, clause in found.items():
            if clause is not None:
                level = logging.WARNING if request is _Request.DELETE else logging.ERROR
                log.log(level, "the bucket %s: %s (docs/buckets.md)", clause, way.consequence)
        self._known |= found

    async def close(self) -> None:
        """End what is being tried."""
        trying = list(self._trying.values())
        for task in trying:
            task.cancel()
        await asyncio.gather(*trying, return_exceptions=True)
        self._trying.clear()

    async def _try(self, key: str, *, in_parts: bool) -> dict[_Way, str | None]:
        request = _Request.COMPLETE if in_parts else _Request.PUT
        create, replace = _Way(request, creates=True), _Way(request)
        found: dict[_Way, str | None] = {}
        first = await self._write(key, IF_ABSENT, in_parts=in_parts)
        if first.etag is None:
            found[create] = f"refuses {create} ({first.reason})"
            first = await self._write(key, None, in_parts=in_parts)
            if first.etag is None:
                raise _nothing_to_try_on()
        else:
            again = await self._write(key, IF_ABSENT, in_parts=in_parts)
            found[create] = self._fault(create, again)
        other = await self._write(key, Guard(_OTHER_ETAG), in_parts=in_parts)
        found[replace] = self._fault(replace, other)
        if found[replace] is None:
            same = await self._write(key, Guard(first.etag), in_parts=in_parts)
            if same.etag is None:
                found[replace] = f"refuses {replace} where it holds ({same.reason})"
        return found

    async def _try_deletion(self, key: str) -> dict[_Way, str | None]:
        way = _Way(_Request.DELETE)
        written = await self._write(key, None, in_parts=False)
        if written.etag is None:
            raise _nothing_to_try_on()
        other = await self._delete(key, Guard(_OTHER_ETAG))
        fault = self._fault(way, other)
        if fault is None:
            same = await self._delete(key, Guard(written.etag))
            if same.refusal is not None:
                fault = f"refuses {way} where it holds ({same.reason})"
        return {way: fault}

    @staticmethod
    def _fault(way: _Way, changed: Written | Deleted) -> str | None:
        """What is wrong with a change whose condition does not hold."""
        if changed.refusal in (Refusal.MISSING, Refusal.GUARD_FAILED):
            return None
        ignored = changed.refusal is None
        return f"ignores {way}" if ignored else f"refuses {way} ({changed.reason})"

    async def _delete(self, key: str, guard: Guard) -> Deleted:
        deleted = await self._store.delete(key, guard=guard, any_refusal=True)
        if deleted.doubtful:
            raise _in_trouble()
        return deleted

    async def _write(self, key: str, guard: Guard | None, *, in_parts: bool) -> Written:
        if in_parts:
            parts = await MultipartUpload.begin(self._store, key, _BARE, self._abandoned)
            await parts.send(_BODY, _SHA256)
            written = await parts.complete(guard, any_refusal=True)
            if written.etag is None:
                self._abandoned.abort(key, parts.upload_id)
        else:
            written = await self._store.put(
                key, _BODY, _SHA256, _BARE, guard=guard, any_refusal=True
            )
        if written.doubtful:  # a refusal may then be our own success's
            raise _in_trouble()
        return written


def _nothing_to_try_on() -> BackendUnavailable:
    return BackendUnavailable("the bucket does not store what conditions are tried on")


def _in_trouble() -> BackendUnavailable:
    return BackendUnavailable("the bucket's conditions could not be tried: it is in trouble")


async def guard_for(
    store: ObjectStore, key: str, condition: Condition, *, deadline: float | None = None
) -> Guard:
    """Check `condition` now, and tie the write to the state that it was checked against.

    Raises:
        PreconditionFailed: it does not hold.
        BackendUnavailable: as its name says.
    """
    head = await store.head(key, deadline=deadline)
    guard = Guard(None if head is None else head.etag)
    condition.check(guard.etag)
    return guard
