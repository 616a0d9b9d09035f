"""Whether a bucket holds to If-None-Match and If-Match when it stores: tried, never believed.

Some ignore the fields, and a guarded save would replace whatever is there; some refuse them, or
take ETags without their quotes alone, as Ceph RGW 18 does
(https://docs.ceph.com/en/reef/radosgw/s3/objectops/). What an object of our own shows is
remembered for as long as the process runs.
"""

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from stillroom.errors import BackendUnavailable, ConditionUnsupported
from stillroom.storage.bucket.abandoned_uploads import AbandonedUploads
from stillroom.storage.bucket.multipart import MultipartUpload
from stillroom.storage.objectstore import Guard, ObjectStore, Properties, Refusal, Written
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


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to store under a condition.

    Attributes:
        creates: There must be no object; else, one with an ETag.
        in_parts: The request is the one that completes a multipart upload.
    """

    creates: bool
    in_parts: bool

    def __str__(self) -> str:
        name = "If-None-Match" if self.creates else "If-Match"
        return f"{name} for images over 16 MiB" if self.in_parts else name


class Conditions:
    """What one bucket does with conditions; found out when it is first needed."""

    def __init__(self, store: ObjectStore, abandoned: AbandonedUploads) -> None:
        self._store = store
        self._abandoned = abandoned
        self._trying: dict[bool, asyncio.Future[None]] = {}
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
        way = _Way(guard.etag is None, in_parts)
        lacking = (await self._found(in_parts=in_parts))[way]
        if lacking is not None:
            raise ConditionUnsupported(
                f"the bucket {lacking}, so a save with a condition cannot be kept to it: "
                "save without one, or use a bucket with conditional writes"
            )

    async def lacking(self) -> Sequence[str]:
        """What the bucket does wrong, a clause each; nothing if it holds to all conditions.

        Raises:
            BackendUnavailable: that could not be found out.
        """
        await self._found(in_parts=False)
        found = await self._found(in_parts=True)
        return [clause for clause in found.values() if clause is not None]

    async def _found(self, *, in_parts: bool) -> Mapping[_Way, str | None]:
        """What is known, once it is; all who need it wait for one attempt."""
        if _Way(creates=False, in_parts=in_parts) not in self._known:
            trying = self._trying.get(in_parts)
            if trying is None:
                trying = asyncio.ensure_future(self._find_out(in_parts=in_parts))
                trying.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._trying[in_parts] = trying
            await asyncio.shield(trying)
        return self._known

    async def _find_out(self, *, in_parts: bool) -> None:
        key = f"{PROBE}{secrets.token_hex(8)}"
        try:
            try:
                found = await self._try(key, in_parts=in_parts)
            finally:
                with contextlib.suppress(BackendUnavailable):
                    await self._store.delete(key, once=True)
        finally:
            del self._trying[in_parts]
        for clause in filter(None, found.values()):
            log.error(
                "the bucket %s: saves with such a condition are answered 501 (docs/r2.md)", clause
            )
        self._known |= found

    async def close(self) -> None:
        """End what is being tried."""
        trying = list(self._trying.values())
        for task in trying:
            task.cancel()
        await asyncio.gather(*trying, return_exceptions=True)
        self._trying.clear()

    async def _try(self, key: str, *, in_parts: bool) -> dict[_Way, str | None]:
        create = _Way(creates=True, in_parts=in_parts)
        replace = _Way(creates=False, in_parts=in_parts)
        found: dict[_Way, str | None] = {}
        first = await self._write(key, IF_ABSENT, in_parts=in_parts)
        if first.etag is None:
            found[create] = f"refuses {create} ({first.reason})"
            first = await self._write(key, None, in_parts=in_parts)
            if first.etag is None:
                raise BackendUnavailable("the bucket does not store what conditions are tried on")
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

    @staticmethod
    def _fault(way: _Way, written: Written) -> str | None:
        """What is wrong with a write whose condition does not hold."""
        if written.refusal in (Refusal.MISSING, Refusal.GUARD_FAILED):
            return None
        stored = written.etag is not None
        return f"ignores {way}" if stored else f"refuses {way} ({written.reason})"

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
            raise BackendUnavailable("the bucket's conditions could not be tried: it is in trouble")
        return written


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
