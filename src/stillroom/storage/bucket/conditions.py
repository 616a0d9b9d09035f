"""Tests that find out whether a bucket supports conditional writes (If-None-Match, If-Match).

Some buckets ignore these headers, so that a conditional save would replace any image. Others reject
requests with these headers, or accept only ETags without quotes, like Ceph RGW 18
(https://docs.ceph.com/en/reef/radosgw/s3/objectops/). Few buckets support conditional deletions. A
test creates a temporary object. The results are cached until the process ends.
"""

import asyncio
import contextlib
import enum
import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from stillroom.errors import BackendUnavailable, ConditionUnsupported
from stillroom.storage.bucket.abandoned_uploads import AbandonedUploads
from stillroom.storage.bucket.multipart import MultipartUpload
from stillroom.storage.capabilities import Limitation
from stillroom.storage.objectstore import ChangeResult, Guard, ObjectStore, Properties, Refusal
from stillroom.storage.values import Condition

PROBE: Final = ".stillroom/conditions-"
"""Key prefix of the temporary object. No image can have such a key."""

_BODY: Final = memoryview(b"written to try conditions; may be deleted")
_SHA256: Final = hashlib.sha256(_BODY).hexdigest()
_OTHER_ETAG: Final = f'"{"0" * 32}"'

IF_ABSENT: Final = Guard()
"""Condition of a save that must not replace an existing image."""

_BARE: Final = Properties()

_CAN_FAIL: Final = (Refusal.MISSING, Refusal.GUARD_FAILED)
"""Reasons for a refusal which prove that the bucket has checked the request's condition."""

log = logging.getLogger("stillroom.r2")


class _Change(enum.Enum):
    """Kind of conditional request whose support is tested. The value is used in log messages."""

    CREATE = "If-None-Match"
    REPLACE = "If-Match"
    CREATE_IN_PARTS = "If-None-Match for images over 16 MiB"
    REPLACE_IN_PARTS = "If-Match for images over 16 MiB"
    DELETE = "If-Match of a DELETE"

    @property
    def consequence(self) -> str:
        """Description of the effect on this server's clients if the bucket lacks support."""
        if self is _Change.DELETE:
            return (
                "a conditional deletion also deletes an image that is saved right after its check"
            )
        return "saves with such a condition get 501"


_Faults = dict[_Change, str | None]
_Probe = tuple[_Change, ...]
"""Kinds of conditional requests that are tested together on one temporary object."""

_PUT: Final = (_Change.CREATE, _Change.REPLACE)
_COMPLETE: Final = (_Change.CREATE_IN_PARTS, _Change.REPLACE_IN_PARTS)
_DELETE: Final = (_Change.DELETE,)


class Conditions:
    """Support of one bucket for conditional requests, tested when it is first needed."""

    def __init__(self, store: ObjectStore, abandoned: AbandonedUploads) -> None:
        self._store = store
        self._abandoned = abandoned
        self._probes: dict[_Probe, asyncio.Future[None]] = {}
        self._faults: _Faults = {}

    async def require(self, guard: Guard | None, *, in_parts: bool = False) -> None:
        """Check that the bucket enforces the condition `guard` when it stores an object.

        The result of a test is cached. A bucket whose documentation promises support is not tested,
        to save billed requests.

        Raises:
            ConditionUnsupported: the bucket does not enforce the condition. The image was not sent
                yet.
            BackendUnavailable: the test failed.
        """
        if guard is None or self._store.keeps_guards:
            return
        probe = _COMPLETE if in_parts else _PUT
        create, replace = probe
        fault = (await self._probe_once(probe))[create if guard.etag is None else replace]
        if fault is not None:
            raise ConditionUnsupported(
                f"the bucket {fault}, so conditional saves are not possible: save without a "
                "condition, or use a bucket with conditional writes"
            )

    async def guards_deletions(self) -> bool:
        """Return whether the bucket supports conditional deletions (If-Match).

        Call this method before the HEAD request that reads the ETag for the condition. The first
        call takes time, in which the image may change.

        Raises:
            BackendUnavailable: the test failed.
        """
        if self._store.keeps_guards:  # R2 documents no conditional deletion
            return False
        return (await self._probe_once(_DELETE))[_Change.DELETE] is None

    async def find_limitations(self) -> Sequence[Limitation]:
        """Return the kinds of conditional requests that the bucket does not support.

        Raises:
            BackendUnavailable: a test failed.
        """
        for probe in (_PUT, _COMPLETE, _DELETE):
            await self._probe_once(probe)
        return [
            Limitation(clause, change.consequence)
            for change, clause in self._faults.items()
            if clause is not None
        ]

    async def close(self) -> None:
        """Cancel running tests of conditional requests."""
        probes = list(self._probes.values())
        for task in probes:
            task.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        self._probes.clear()

    async def _probe_once(self, probe: _Probe) -> Mapping[_Change, str | None]:
        """Return all test results so far, after running `probe` once for all callers."""
        if probe[0] not in self._faults:
            task = self._probes.get(probe)
            if task is None:
                task = self._probes[probe] = asyncio.ensure_future(self._run(probe))
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.shield(task)
        return self._faults

    async def _run(self, probe: _Probe) -> None:
        key = f"{PROBE}{secrets.token_hex(8)}"
        try:
            try:
                faults = await self._find_faults(probe, key)
            finally:
                with contextlib.suppress(BackendUnavailable):
                    await self._store.delete(key, once=True)
        finally:
            del self._probes[probe]
        for change, clause in faults.items():
            if clause is not None:
                level = logging.WARNING if change is _Change.DELETE else logging.ERROR
                log.log(level, "the bucket %s: %s (docs/buckets.md)", clause, change.consequence)
        self._faults |= faults

    async def _find_faults(self, probe: _Probe, key: str) -> _Faults:
        async def write(guard: Guard | None) -> ChangeResult:
            return _certain(await self._write(key, guard, in_parts=probe is _COMPLETE))

        async def delete(guard: Guard | None) -> ChangeResult:
            return _certain(await self._store.delete(key, guard=guard, any_refusal=True))

        *creates, replace = probe
        faults: _Faults = {}
        first = await write(IF_ABSENT if creates else None)
        for create in creates:
            if first.etag is None:
                faults[create] = f"refuses {create.value} ({first.reason})"
                first = await write(None)
            else:
                faults[create] = _fault_of(create, await write(IF_ABSENT))
        if first.etag is None:
            raise BackendUnavailable(
                "cannot find out whether the bucket supports conditional writes, because it does "
                "not store the test object: try again later"
            )
        send = write if creates else delete
        faults[replace] = _fault_of(replace, await send(Guard(_OTHER_ETAG)))
        if faults[replace] is None:
            same = await send(Guard(first.etag))
            if same.refusal is not None:
                faults[replace] = (
                    f"refuses {replace.value} although the condition is met ({same.reason})"
                )
        return faults

    async def _write(self, key: str, guard: Guard | None, *, in_parts: bool) -> ChangeResult:
        if not in_parts:
            return await self._store.put(key, _BODY, _SHA256, _BARE, guard=guard, any_refusal=True)
        parts = await MultipartUpload.begin(self._store, key, _BARE, self._abandoned)
        await parts.send(_BODY, _SHA256)
        written = await parts.complete(guard, any_refusal=True)
        if written.etag is None:
            self._abandoned.abort(key, parts.upload_id)
        return written


def _certain(result: ChangeResult) -> ChangeResult:
    """Return the result.

    Raise if an earlier attempt, whose response was lost, may have succeeded.
    """
    if result.doubtful:
        raise BackendUnavailable(
            "cannot find out whether the bucket supports conditional writes, because its requests "
            "fail: try again later"
        )
    return result


def _fault_of(change: _Change, result: ChangeResult) -> str | None:
    """Return a description of the bucket's fault, or None. The request's condition was false."""
    if result.refusal is None:
        return f"ignores {change.value}"
    return None if result.refusal in _CAN_FAIL else f"refuses {change.value} ({result.reason})"


async def guard_for(
    store: ObjectStore, key: str, condition: Condition, *, deadline: float | None = None
) -> Guard:
    """Check `condition` against the current object, and return a condition on the object's ETag.

    Raises:
        PreconditionFailed: the condition does not hold.
        BackendUnavailable: the bucket could not be read.
    """
    head = await store.head(key, deadline=deadline)
    guard = Guard(None if head is None else head.etag)
    condition.check(guard.etag)
    return guard
