"""Tests that find out whether a bucket supports conditional writes (If-None-Match, If-Match).

Some buckets ignore these headers. Others reject them, or accept only ETags without quotes, like
Ceph RGW 18 (https://docs.ceph.com/en/reef/radosgw/s3/objectops/). Few support conditional
deletions. Each test creates a temporary object. Results are cached until the process ends.
"""

import asyncio
import contextlib
import enum
import hashlib
import logging
import secrets
from collections.abc import Sequence
from typing import Final

from stillroom.errors import BackendUnavailable, ConditionUnsupported
from stillroom.store.bucket.abandoned_uploads import AbandonedUploads
from stillroom.store.bucket.multipart import MultipartUpload
from stillroom.store.capabilities import Limitation
from stillroom.store.objectstore import ChangeResult, Guard, ObjectStore, Properties, Refusal
from stillroom.store.values import Condition

PROBE: Final = ".stillroom/conditions-"  # key prefix of the temporary object; no image has it
_BODY: Final = memoryview(b"written to try conditions; may be deleted")
_SHA256: Final = hashlib.sha256(_BODY).hexdigest()
_OTHER_ETAG: Final = f'"{"0" * 32}"'
IF_ABSENT: Final = Guard()  # condition of a save that must not replace an image
_BARE: Final = Properties()

log = logging.getLogger("stillroom.r2")


class _Probe(enum.Enum):
    """Kind of conditional request to test. In log messages, its value follows a header's name."""

    PUT = ""
    PARTS = " for images over 16 MiB"
    DELETE = " of a DELETE"

    @property
    def consequence(self) -> str:
        """Effect on clients of this server if the bucket does not support these requests."""
        text = "a conditional deletion also deletes an image that is saved right after its check"
        return text if self is _Probe.DELETE else "saves with such a condition get 501"


_Faults = tuple[str | None, str | None]  # descriptions of faults with If-None-Match and If-Match


class Conditions:
    """Support of one bucket for conditional requests, tested when it is first needed."""

    def __init__(self, store: ObjectStore, abandoned: AbandonedUploads) -> None:
        self._store = store
        self._abandoned = abandoned
        self._tests: dict[_Probe, asyncio.Future[_Faults]] = {}

    async def require(self, guard: Guard | None, *, in_parts: bool = False) -> None:
        """Raise `ConditionUnsupported` unless the bucket enforces the condition of a save."""
        if guard is None or self._store.keeps_guards:  # documented support needs no billed test
            return
        create, replace = await self._test(_Probe.PARTS if in_parts else _Probe.PUT)
        fault = create if guard.etag is None else replace
        if fault is not None:
            raise ConditionUnsupported(
                f"the bucket {fault}, so conditional saves are not possible: save without a "
                "condition, or use a bucket with conditional writes"
            )

    async def guards_deletions(self) -> bool:
        """Return whether the bucket supports conditional deletions (If-Match).

        Call this method before the HEAD request that reads the ETag for the condition. The first
        call takes longer, since it tests the bucket, and the image may change meanwhile.
        """
        # R2 documents no conditional deletion.
        return not self._store.keeps_guards and not any(await self._test(_Probe.DELETE))

    async def find_limitations(self) -> Sequence[Limitation]:
        """Return the kinds of conditional requests that the bucket does not support."""
        return [
            Limitation(fault, probe.consequence)
            for probe in _Probe
            for fault in await self._test(probe)
            if fault is not None
        ]

    async def close(self) -> None:
        """Cancel running tests of conditional requests."""
        running = [test for test in self._tests.values() if not test.done()]
        for test in running:
            test.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _test(self, probe: _Probe) -> _Faults:
        """Run a test once for all callers, and return its result. Failed tests are repeated."""
        test = self._tests.get(probe)
        if test is None or (test.done() and (test.cancelled() or test.exception())):
            test = self._tests[probe] = asyncio.ensure_future(self._run(probe))
        return await asyncio.shield(test)

    async def _run(self, probe: _Probe) -> _Faults:
        key = f"{PROBE}{secrets.token_hex(8)}"
        try:
            faults = await self._find_faults(probe, key)
        finally:
            with contextlib.suppress(BackendUnavailable):
                await self._store.delete(key, once=True)
        level = logging.WARNING if probe is _Probe.DELETE else logging.ERROR
        for fault in faults:
            if fault is not None:
                log.log(level, "the bucket %s: %s (docs/buckets.md)", fault, probe.consequence)
        return faults

    async def _find_faults(self, probe: _Probe, key: str) -> _Faults:
        async def write(guard: Guard | None) -> ChangeResult:
            return (await self._write(key, guard, in_parts=probe is _Probe.PARTS)).certain()

        async def delete(guard: Guard | None) -> ChangeResult:
            return (await self._store.delete(key, guard=guard, any_refusal=True)).certain()

        if_none_match, if_match = f"If-None-Match{probe.value}", f"If-Match{probe.value}"
        create: str | None = None
        first = await write(None if probe is _Probe.DELETE else IF_ABSENT)
        if probe is not _Probe.DELETE:
            if first.etag is None:
                create = f"refuses {if_none_match} ({first.reason})"
                first = await write(None)
            else:
                create = _fault_of(if_none_match, await write(IF_ABSENT))
        if first.etag is None:
            raise BackendUnavailable(
                "cannot find out whether the bucket supports conditional writes, because it does "
                "not store the test object: try again later"
            )
        change = delete if probe is _Probe.DELETE else write
        replace = _fault_of(if_match, await change(Guard(_OTHER_ETAG)))
        if replace is None:
            same = await change(Guard(first.etag))
            if same.refusal is not None:
                replace = f"refuses {if_match} although the condition is met ({same.reason})"
        return create, replace

    async def _write(self, key: str, guard: Guard | None, *, in_parts: bool) -> ChangeResult:
        if not in_parts:
            return await self._store.put(key, _BODY, _SHA256, _BARE, guard=guard, any_refusal=True)
        parts = await MultipartUpload.begin(
            self._store, key, _BARE, self._abandoned, is_shared=False
        )
        written: ChangeResult | None = None
        try:
            await parts.send(_BODY, _SHA256)
            written = await parts.complete(guard, any_refusal=True)
        finally:
            if written is None or written.etag is None:
                self._abandoned.abort(key, parts.upload_id)
        return written


def _fault_of(condition: str, result: ChangeResult) -> str | None:
    """Return the fault in the bucket's response to a request with a false condition, or None."""
    if result.refusal is None:
        return f"ignores {condition}"
    has_checked = result.refusal in (Refusal.MISSING, Refusal.GUARD_FAILED)
    return None if has_checked else f"refuses {condition} ({result.reason})"


async def guard_for(
    store: ObjectStore, key: str, condition: Condition, *, deadline: float | None = None
) -> Guard:
    """Check `condition` on the current object. Return a guard that fails after a change."""
    head = await store.head(key, deadline=deadline)
    guard = Guard(None if head is None else head.etag)
    condition.check(guard.etag)
    return guard
