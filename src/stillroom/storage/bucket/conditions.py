"""Probes that test whether a bucket supports If-None-Match and If-Match.

Some buckets ignore these headers, so a conditional save would replace any image. Others refuse
them, or accept only ETags without quotes, like Ceph RGW 18
(https://docs.ceph.com/en/reef/radosgw/s3/objectops/). Few support them for deletions. A probe
creates a temporary object. Its results are cached until the process ends.
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
"""Key prefix of the temporary object. No image can have such a key."""

_BODY: Final = memoryview(b"written to try conditions; may be deleted")
_SHA256: Final = hashlib.sha256(_BODY).hexdigest()
_OTHER_ETAG: Final = f'"{"0" * 32}"'

IF_ABSENT: Final = Guard()
"""Guard for a save that must not replace an existing image."""

_BARE: Final = Properties()

log = logging.getLogger("stillroom.r2")


class _Request(enum.Enum):
    """Kind of conditional request. The value is appended to the condition's name in messages."""

    PUT = ""
    COMPLETE = " for images over 16 MiB"
    DELETE = " of a DELETE"


@dataclass(frozen=True, slots=True)
class _Change:
    """A kind of conditional change whose support is probed.

    Attributes:
        creates: The object must not exist; otherwise, it must have the given ETag.
    """

    request: _Request
    creates: bool = False

    def __str__(self) -> str:
        return f"{'If-None-Match' if self.creates else 'If-Match'}{self.request.value}"

    @property
    def consequence(self) -> str:
        """Description of the effect on this server's clients if the bucket lacks support."""
        if self.request is _Request.DELETE:
            return (
                "a conditional deletion also deletes an image that is saved right after its check"
            )
        return "saves with such a condition get 501"


class Conditions:
    """Conditions that one bucket supports, probed when they are first needed."""

    def __init__(self, store: ObjectStore, abandoned: AbandonedUploads) -> None:
        self._store = store
        self._abandoned = abandoned
        self._probes: dict[_Request, asyncio.Future[None]] = {}
        self._faults: dict[_Change, str | None] = {}

    async def require(self, guard: Guard | None, *, in_parts: bool = False) -> None:
        """Raise unless the bucket enforces `guard` when it stores an object.

        A bucket whose documentation promises support is not probed, to save billed requests.

        Raises:
            ConditionUnsupported: the bucket does not enforce it. Nothing was sent yet.
            BackendUnavailable: the probe failed.
        """
        if guard is None or self._store.keeps_guards:
            return
        request = _Request.COMPLETE if in_parts else _Request.PUT
        fault = (await self._probe_once(request))[_Change(request, guard.etag is None)]
        if fault is not None:
            raise ConditionUnsupported(
                f"the bucket {fault}, so conditional saves are not possible: save without a "
                "condition, or use a bucket with conditional writes"
            )

    async def guards_deletions(self) -> bool:
        """Return whether the bucket enforces the guard of a deletion.

        Call it before the HEAD request for the guard's ETag, since the first call takes time.

        Raises:
            BackendUnavailable: the probe failed.
        """
        if self._store.keeps_guards:  # R2 documents no conditional deletion
            return False
        return (await self._probe_once(_Request.DELETE))[_Change(_Request.DELETE)] is None

    async def find_limitations(self) -> Sequence[Limitation]:
        """Return the unsupported conditions.

        Raises:
            BackendUnavailable: a probe failed.
        """
        for request in _Request:
            await self._probe_once(request)
        return [
            Limitation(clause, change.consequence)
            for change, clause in self._faults.items()
            if clause is not None
        ]

    async def _probe_once(self, request: _Request) -> Mapping[_Change, str | None]:
        """Return the results so far, after probing `request` once for all callers."""
        if _Change(request) not in self._faults:
            probe = self._probes.get(request)
            if probe is None:
                probe = asyncio.ensure_future(self._probe(request))
                probe.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._probes[request] = probe
            await asyncio.shield(probe)
        return self._faults

    async def _probe(self, request: _Request) -> None:
        key = f"{PROBE}{secrets.token_hex(8)}"
        try:
            try:
                if request is _Request.DELETE:
                    faults = await self._probe_deletion(key)
                else:
                    faults = await self._probe_saves(key, in_parts=request is _Request.COMPLETE)
            finally:
                with contextlib.suppress(BackendUnavailable):
                    await self._store.delete(key, once=True)
        finally:
            del self._probes[request]
        for change, clause in faults.items():
            if clause is not None:
                level = logging.WARNING if request is _Request.DELETE else logging.ERROR
                log.log(level, "the bucket %s: %s (docs/buckets.md)", clause, change.consequence)
        self._faults |= faults

    async def close(self) -> None:
        """Cancel running probes."""
        probes = list(self._probes.values())
        for task in probes:
            task.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        self._probes.clear()

    async def _probe_saves(self, key: str, *, in_parts: bool) -> dict[_Change, str | None]:
        request = _Request.COMPLETE if in_parts else _Request.PUT
        create, replace = _Change(request, creates=True), _Change(request)
        faults: dict[_Change, str | None] = {}
        first = await self._write(key, IF_ABSENT, in_parts=in_parts)
        if first.etag is None:
            faults[create] = f"refuses {create} ({first.reason})"
            first = await self._write(key, None, in_parts=in_parts)
            if first.etag is None:
                raise _probe_refused()
        else:
            again = await self._write(key, IF_ABSENT, in_parts=in_parts)
            faults[create] = self._describe_fault(create, again)
        other = await self._write(key, Guard(_OTHER_ETAG), in_parts=in_parts)
        faults[replace] = self._describe_fault(replace, other)
        if faults[replace] is None:
            same = await self._write(key, Guard(first.etag), in_parts=in_parts)
            if same.etag is None:
                faults[replace] = f"refuses {replace} although the condition is met ({same.reason})"
        return faults

    async def _probe_deletion(self, key: str) -> dict[_Change, str | None]:
        change = _Change(_Request.DELETE)
        written = await self._write(key, None, in_parts=False)
        if written.etag is None:
            raise _probe_refused()
        other = await self._delete(key, Guard(_OTHER_ETAG))
        fault = self._describe_fault(change, other)
        if fault is None:
            same = await self._delete(key, Guard(written.etag))
            if same.refusal is not None:
                fault = f"refuses {change} although the condition is met ({same.reason})"
        return {change: fault}

    @staticmethod
    def _describe_fault(change: _Change, result: Written | Deleted) -> str | None:
        """Describe the fault if a request whose condition is false had this result, else None."""
        if result.refusal in (Refusal.MISSING, Refusal.GUARD_FAILED):
            return None
        ignored = result.refusal is None
        return f"ignores {change}" if ignored else f"refuses {change} ({result.reason})"

    async def _delete(self, key: str, guard: Guard) -> Deleted:
        deleted = await self._store.delete(key, guard=guard, any_refusal=True)
        if deleted.doubtful:
            raise _probe_interrupted()
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
        if written.doubtful:  # a refusal may then be due to the success of an earlier attempt
            raise _probe_interrupted()
        return written


def _probe_refused() -> BackendUnavailable:
    return BackendUnavailable("the bucket does not store the object that tests its conditions")


def _probe_interrupted() -> BackendUnavailable:
    return BackendUnavailable("cannot test the conditions of a bucket that is failing")


async def guard_for(
    store: ObjectStore, key: str, condition: Condition, *, deadline: float | None = None
) -> Guard:
    """Check `condition` against the current object, and return a guard with its ETag.

    Raises:
        PreconditionFailed: the condition does not hold.
        BackendUnavailable: the bucket could not be read.
    """
    head = await store.head(key, deadline=deadline)
    guard = Guard(None if head is None else head.etag)
    condition.check(guard.etag)
    return guard
